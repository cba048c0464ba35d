#include "trainer/cli/study_place.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <optional>

#include "trainer/cli/cluster_file.h"
#include "trainer/cli/input_text.h"
#include "trainer/cli/plan_workload.h"
#include "trainer/cli/study_claim.h"
#include "trainer/cli/study_facts.h"
#include "trainer/cli/study_file.h"
#include "trainer/cli/version.h"
#include "trainer/study/experiment/tables.h"
#include "trainer/train/errors.h"
#include "trainer/train/files.h"
#include "trainer/train/run_directory.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using study::Role;
using study::Status;

/// A failed tuning run counts as a value that is too high to be the best.
void note_loss(const study::StudyRun& one, study::Losses& losses) {
  if (is_finished(one.state.status)) losses[one.run.id] = one.state.loss;
  if (one.state.status == Status::kFailed && one.run.role == Role::kTuning)
    losses[one.run.id] = std::numeric_limits<double>::infinity();
}

/// Nothing for a cell that the cluster's file is not of, or that a plan refuses.
std::optional<study::Predicted> prediction_of(const train::RunOptions& options, std::int64_t ranks,
                                              std::int64_t vocabulary, const study::plan::Cluster& cluster) {
  try {
    const auto step = predicted_step(options, vocabulary, ranks, cluster);
    return study::Predicted{.step_s = step.step_s, .memory_bytes = step.memory_bytes};
  } catch (const train::InputError&) {
    return std::nullopt;
  }
}

}  // namespace

bool is_finished(Status status) { return status == Status::kDone || status == Status::kOtherVersion; }

bool may_start(const study::StudyRun& one) {
  const auto from = one.run.derived.find("run.branch_from");
  return from == one.run.derived.end() || fs::exists(from->second);
}

StudyPlace::StudyPlace(const fs::path& file)
    : text_(read_input(file, file.string())),
      spec_(parse_study(text_, file.string())),
      cells_(study::make_cells(spec_, study_facts(spec_))),
      version_(fmt::format("{} (commit {})", program_version(), program_commit())) {
  if (!spec_.speed.cluster.empty()) cluster_ = read_cluster(spec_.speed.cluster);
  // What the runs are given is judged now, and not when the first hours are over.
  std::vector<std::string> faults;
  for (const auto& run : study::expand(spec_, cells_, {}, spec_.dir).runs) {
    try {
      (void)study_options(run, "(none)");
    } catch (const train::InputError& error) {
      for (const auto& fault : error.faults()) faults.push_back(fmt::format("{}: {}", run.title(), fault));
    }
  }
  if (!faults.empty()) throw train::InputError(faults);
}

StudySnapshot StudyPlace::look() const {
  study::Losses losses;
  std::map<std::string, study::RunState> states;
  for (;;) {
    const auto known = losses.size();
    auto expansion = study::expand(spec_, cells_, losses, spec_.dir);
    StudySnapshot snapshot{.runs = {}, .tuning = expansion.tuning, .undecided = expansion.undecided};
    for (auto& run : expansion.runs) {
      study::StudyRun one{.run = std::move(run), .state = {}, .directory = ""};
      one.directory = fmt::format("{}/runs/{}", spec_.dir, one.run.id);
      const auto seen = states.find(one.run.id);
      one.state =
          seen != states.end() ? seen->second : study::read_run_state(one.run, one.directory, version_);
      states[one.run.id] = one.state;
      if (one.state.status == Status::kWaiting && is_claimed(one.directory))
        one.state.status = Status::kRunning;
      note_loss(one, losses);
      snapshot.runs.push_back(std::move(one));
    }
    if (losses.size() == known) return snapshot;
  }
}

void StudyPlace::write(const StudySnapshot& snapshot) const {
  fs::create_directories(directory() / "runs");
  train::replace_file(directory() / "study.ini", text_);
  train::replace_file(directory() / "study.json",
                      study::study_json(spec_, snapshot.runs, snapshot.undecided, version_));
}

void StudyPlace::collect(const StudySnapshot& snapshot) const {
  fs::create_directories(directory());
  if (spec_.kind == study::StudyKind::kSpeed) {
    auto runs = snapshot.runs;
    for (auto& one : runs) {
      const auto options = study_bench_options(one.run);
      one.run.resolved = all_settings(options);
      if (cluster_) one.predicted = prediction_of(options, one.run.ranks, spec_.speed.vocabulary, *cluster_);
    }
    train::replace_file(directory() / "speed.csv", study::csv_text(study::speed_table(runs)));
    return;
  }
  train::replace_file(directory() / "points.csv", study::csv_text(study::points_table(snapshot.runs)));
  if (!snapshot.tuning.empty())
    train::replace_file(directory() / "lr.csv",
                        study::csv_text(study::tuning_table(snapshot.tuning, snapshot.runs)));
}

}  // namespace sluice::cli
