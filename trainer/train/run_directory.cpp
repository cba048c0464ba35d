#include "trainer/train/run_directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>
#include <utility>

#include "trainer/train/errors.h"
#include "trainer/train/files.h"
#include "trainer/train/records.h"

namespace fs = std::filesystem;

namespace sluice::train {

namespace {

constexpr const char* kResolvedIni = "resolved.ini";
constexpr const char* kComment = "# ";

/// Opens resolved.ini, as comments. Runs of version 1 had it in a file of its own.
std::string commented(const std::string& text) {
  std::string comments;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) comments += kComment + line + "\n";
  return comments;
}

bool is_run(const fs::path& directory) { return fs::exists(directory / kResolvedIni); }

/// Nothing there but what a killed start left, and what `sluice submit` has put there for the start to come.
bool is_unused(const fs::path& directory) {
  if (!fs::exists(directory)) return true;
  if (!fs::is_directory(directory)) return false;
  return std::ranges::all_of(fs::directory_iterator(directory), [](const fs::directory_entry& entry) {
    const auto name = entry.path().filename().string();
    return name.ends_with(kTemporarySuffix) || name.starts_with(kSubmitPrefix);
  });
}

void move_aside(const fs::path& path) {
  if (!fs::exists(path)) return;
  std::string name = path.string();
  while (name.size() > 1 && name.back() == '/') name.pop_back();
  for (std::int64_t i = 1;; ++i) {
    const fs::path aside = fmt::format("{}.{}", name, i);
    if (fs::exists(aside)) continue;
    fs::rename(name, aside);
    return;
  }
}

void check_state(const TrainingState& state, const RunOptions& options) {
  if (state.next_sample != state.step * options.train.global_batch) {
    throw InputError(
        fmt::format("train.global_batch: {} does not go on where step {} of the checkpoint ended (sample {})",
                    options.train.global_batch, state.step, state.next_sample));
  }
  if (state.step > options.train.steps) {
    throw InputError(
        fmt::format("train.steps: {}, but the run has done {} already", options.train.steps, state.step));
  }
}

/// The run's own newest good checkpoint, if it has any yet.
std::optional<CheckpointInfo> own_checkpoint(const fs::path& directory, std::vector<std::string>& warnings) {
  if (!is_run(directory)) return std::nullopt;
  auto found = find_checkpoint(directory, warnings);
  if (found || warnings.empty()) return found;
  std::vector<std::string> faults = warnings;
  faults.push_back(fmt::format("run.dir: {} has checkpoints but no good one; start anew with --run.new=true",
                               directory.string()));
  throw InputError(std::move(faults));
}

/// That of another run, which a run without one of its own goes on from.
CheckpointInfo branch_point(const std::string& path, std::vector<std::string>& warnings) {
  auto found = find_checkpoint(path, warnings);
  if (!found) throw InputError(fmt::format("run.branch_from = {}: the run has no good checkpoint", path));
  if (found->resolved_ini.empty()) {
    throw InputError(fmt::format(
        "run.branch_from = {}: holds weights alone, no optimizer's state; train.init_from starts from them",
        path));
  }
  return *std::move(found);
}

/// The checkpoint to go on from, judged by its settings.
void choose_checkpoint(OpenedRun& run, const RunOptions& options, const std::vector<OpenCorpus>& corpora,
                       const CompareForResume& compare) {
  run.checkpoint = own_checkpoint(options.run.dir, run.warnings);
  if (!run.checkpoint && !options.run.branch_from.empty())
    run.checkpoint = branch_point(options.run.branch_from, run.warnings);
  if (!run.checkpoint) return;
  if (const auto fault = other_data(*run.checkpoint, corpora)) throw InputError(*fault);
  ResumeVerdict verdict = compare(run.checkpoint->resolved_ini, run.checkpoint->state.step);
  if (!verdict.refusals.empty()) throw InputError(std::move(verdict.refusals));
  check_state(run.checkpoint->state, options);
  std::ranges::move(verdict.warnings, std::back_inserter(run.warnings));
}

void prepare_ledger(const std::string& ledger, std::int64_t step) {
  if (ledger.empty()) return;
  const fs::path path = ledger;
  if (path.has_parent_path()) fs::create_directories(path.parent_path());
  cut_lines(path, step);
}

void refuse_used_ledger(const std::string& ledger) {
  if (ledger.empty() || !fs::exists(ledger) || fs::is_empty(ledger)) return;
  throw InputError(fmt::format(
      "train.ledger: {} exists and belongs to another run; name another file, or remove it", ledger));
}

/// Two jobs on one run, a requeued one beside one that still ends say, would interleave their records.
std::unique_ptr<DirectoryLock> lock_run(const fs::path& directory) {
  auto lock = std::make_unique<DirectoryLock>(directory);
  if (lock->held()) return lock;
  throw InputError(fmt::format(
      "run.dir: {} is being written to by another job; wait for it to end, or name another directory",
      directory.string()));
}

}  // namespace

bool may_hold_run(const fs::path& directory) { return is_unused(directory) || is_run(directory); }

OpenedRun open_run(const RunOptions& options, const RunTexts& texts, const std::vector<OpenCorpus>& corpora,
                   const CompareForResume& compare) {
  const fs::path directory = options.run.dir;
  if (!may_hold_run(directory)) {
    throw InputError(fmt::format("run.dir: {} exists and is not a run (no {}); name another one",
                                 directory.string(), kResolvedIni));
  }
  OpenedRun run;
  if (is_run(directory)) run.lock = lock_run(directory);
  if (is_run(directory) && options.run.new_run) {
    move_aside(directory);
    if (!options.train.ledger.empty()) move_aside(options.train.ledger);
  }
  choose_checkpoint(run, options, corpora, compare);
  const std::int64_t step = run.checkpoint ? run.checkpoint->state.step : 0;
  if (is_run(directory)) {
    run.last_valid_step = cut_lines(directory / "metrics.jsonl", step).last_valid_step;
  } else {
    refuse_used_ledger(options.train.ledger);
    fs::create_directories(directory);
    run.lock = lock_run(directory);
  }
  prepare_ledger(options.train.ledger, step);
  fs::remove(directory / "build.txt");
  replace_file(directory / kResolvedIni, commented(texts.build) + texts.resolved_ini);
  return run;
}

}  // namespace sluice::train
