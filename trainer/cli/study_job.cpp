#include "trainer/cli/study_job.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "trainer/cli/command.h"
#include "trainer/cli/input_text.h"
#include "trainer/cli/option_table.h"
#include "trainer/cli/site.h"
#include "trainer/cli/spawn.h"
#include "trainer/cli/study_facts.h"
#include "trainer/train/files.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

fs::path program() { return fs::read_symlink("/proc/self/exe"); }

/// launch/mpirun.sh of this program's tree, installed (bin/sluice) or built (build/release/sluice).
fs::path launcher() {
  const auto directory = program().parent_path();
  for (const auto& tree : {directory.parent_path(), directory.parent_path().parent_path()}) {
    if (fs::exists(tree / "launch" / "mpirun.sh")) return tree / "launch" / "mpirun.sh";
  }
  return "mpirun.sh";  // from PATH
}

std::vector<std::string> launched(std::vector<std::string> words, std::int64_t ranks,
                                  const std::string& launch) {
  if (!launch.empty()) {
    return {
        "bash", "-c",
        "exec " +
            fill_launch(launch,
                        {.ranks = ranks, .nodes = 1, .ranks_per_node = ranks, .command = shell_text(words)})};
  }
  if (ranks == 1) return words;
  std::vector<std::string> all{launcher().string(), "-n", std::to_string(ranks), "--"};
  all.insert(all.end(), words.begin(), words.end());
  return all;
}

/// The GPUs of a slot: `ranks` of them, of those that this process may use.
std::string gpus_of_slot(const JobPlace& place, std::int64_t ranks) {
  std::vector<std::string> all;
  if (const char* const visible = std::getenv("CUDA_VISIBLE_DEVICES");
      visible != nullptr && *visible != '\0') {
    all = split_at(visible, ',');
  } else {
    for (std::int64_t i = 0; i < place.gpus; ++i) all.push_back(std::to_string(i));
  }
  const auto count = std::min(place.gpus, static_cast<std::int64_t>(all.size()));
  std::vector<std::string> own;
  for (std::int64_t i = 0; i < std::min(ranks, count); ++i)
    own.push_back(all[static_cast<std::size_t>((place.slot * ranks + i) % count)]);
  return fmt::format("{}", fmt::join(own, ","));
}

std::string text_after(const fs::path& file, std::int64_t begin) {
  if (!fs::exists(file)) return "";
  const auto text = train::read_file(file);
  return text.substr(std::min(static_cast<std::size_t>(begin), text.size()));
}

}  // namespace

std::string shell_text(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) {
    if (!text.empty()) text += ' ';
    text += '\'';
    for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
    text += '\'';
  }
  return text;
}

std::string last_words(int code, const std::string& log) {
  std::string last;
  bool ours = false;  // a launcher says more after the program's own reason
  for (std::size_t begin = 0; begin < log.size();) {
    const auto end = std::min(log.find_first_of("\n\r", begin), log.size());
    const auto line = log.substr(begin, end - begin);
    const bool of_sluice = line.starts_with("sluice: ");
    if (of_sluice || (!ours && line.find_first_not_of(" \t-") != std::string::npos)) last = line;
    ours = ours || of_sluice;
    begin = end + 1;
  }
  const auto what = code > 128 ? fmt::format("signal {}", code - 128) : fmt::format("exit code {}", code);
  return last.empty() ? what : what + ": " + last;
}

StudyJob::StudyJob(study::StudyRun run, RunClaim claim, JobPlace place, std::string version)
    : run_(std::move(run)), claim_(std::move(claim)), place_(std::move(place)), version_(std::move(version)) {
  const bool speed = run_.run.role == study::Role::kSpeed;
  options_ = study_options(run_.run, run_.directory);
  if (!run_.run.values.contains("train.threads")) options_.train.threads = place_.threads;
  train::replace_file(fs::path(run_.directory) / study::kSettingsFile, dump_ini(options_));
  const bool trained = !speed && study::training_done(run_.run, run_.directory);
  begin(speed ? Stage::kBench : trained ? Stage::kEval : Stage::kTrain);
}

double StudyJob::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
}

std::vector<std::string> StudyJob::words(Stage stage) const {
  const auto settings = (fs::path(run_.directory) / study::kSettingsFile).string();
  const auto& t = options_.train;
  switch (stage) {
    case Stage::kTrain:
      return {program().string(), "train", "--config", settings};
    case Stage::kEval:
      return {program().string(),
              "eval",
              "--checkpoint",
              run_.directory,
              "--corpus",
              options_.data.corpus,
              "--precision",
              t.precision,
              "--device",
              t.device,
              "--micro-batch",
              std::to_string(t.micro_batch),
              "--threads",
              std::to_string(t.threads),
              "--json"};
    case Stage::kBench: {
      std::vector<std::string> all{program().string(), "bench", "step", "--config", settings, "--json"};
      for (const auto& [flag, value] : run_.run.derived) all.insert(all.end(), {"--" + flag, value});
      return all;
    }
  }
  return {};
}

void StudyJob::begin(Stage stage) {
  stage_ = stage;
  const fs::path directory = run_.directory;
  const auto log = directory / study::kLogFile;
  const auto result = directory / "submit.out";
  log_begin_ = fs::exists(log) ? static_cast<std::int64_t>(fs::file_size(log)) : 0;
  if (stage != Stage::kTrain) fs::remove(result);
  StartPlan plan{.words = launched(words(stage), run_.run.ranks, place_.launch),
                 .output = stage == Stage::kTrain ? log : result,
                 .errors = log,
                 .variables = {{"SLUICE_PROGRESS", "lines"}},
                 .kept_open = claim_.descriptor()};
  if (place_.gpus > 0) plan.variables["CUDA_VISIBLE_DEVICES"] = gpus_of_slot(place_, run_.run.ranks);
  child_ = start(plan);
}

std::optional<JobEnd> StudyJob::poll(Next next) {
  const auto code = ended(child_);
  if (!code) return std::nullopt;
  if (*code == kDone) {
    complete(stage_);
    if (stage_ != Stage::kTrain) return JobEnd::kSucceeded;
    if (next == Next::kStop) return JobEnd::kStopped;
    begin(Stage::kEval);
    return std::nullopt;
  }
  // What was asked to stop, an evaluation or a benchmark, has nothing to keep and is ended by the signal.
  if (*code == kStoppedEarly || next == Next::kStop) return JobEnd::kStopped;
  write_failure(*code);
  return JobEnd::kFailed;
}

void StudyJob::complete(Stage stage) const {
  const fs::path directory = run_.directory;
  const auto result = directory / "submit.out";
  if (stage == Stage::kEval) fs::rename(result, directory / "eval.json");
  if (stage != Stage::kBench) return;
  const auto text = train::read_file(result);
  auto values = nlohmann::ordered_json::parse(
      text.substr(text.rfind("\n{") == std::string::npos ? 0 : text.rfind("\n{")));
  values["version"] = version_;
  train::replace_file(directory / "bench.json", values.dump() + "\n");
  fs::remove(result);
}

void StudyJob::write_failure(int code) const {
  const fs::path directory = run_.directory;
  const auto reason = last_words(code, text_after(directory / study::kLogFile, log_begin_));
  train::replace_file(directory / study::kFailedFile, reason + "\n");
}

void StudyJob::signal(int number) const { ::kill(child_, number); }

}  // namespace sluice::cli
