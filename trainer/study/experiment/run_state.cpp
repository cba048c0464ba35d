#include "trainer/study/experiment/run_state.h"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

namespace fs = std::filesystem;

std::optional<std::string> text_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return std::nullopt;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::optional<nlohmann::json> json_of(const fs::path& file) {
  const auto text = text_of(file);
  if (!text) return std::nullopt;
  try {
    return nlohmann::json::parse(*text);
  } catch (const nlohmann::json::exception& fault) {
    throw train::InputError(
        fmt::format("{}: is not JSON, and a study wrote it as JSON: {}; remove it and run again",
                    file.string(), fault.what()));
  }
}

/// resolved.ini opens with the lines of `sluice --version`, as comments.
std::string version_of_run(const fs::path& directory) {
  std::ifstream in(directory / "resolved.ini");
  std::string line;
  if (!std::getline(in, line) || !line.starts_with("# ")) return "";
  return version_of(line.substr(2));
}

void read_evaluation(const Run& run, const fs::path& directory, RunState& state) {
  const auto evaluation = json_of(directory / "eval.json");
  if (!evaluation || evaluation->value("step", std::int64_t{-1}) != run.steps) return;
  state.loss = evaluation->value("loss", state.loss);
  state.version = version_of_run(directory);
  state.status = Status::kDone;
}

void read_benchmark(const fs::path& directory, RunState& state) {
  const auto benchmark = json_of(directory / "bench.json");
  if (!benchmark) return;
  state.version = benchmark->value("version", "");
  state.status = Status::kDone;
}

}  // namespace

const char* status_name(Status status) {
  switch (status) {
    case Status::kWaiting:
      return "waiting";
    case Status::kRunning:
      return "running";
    case Status::kDone:
      return "done";
    case Status::kFailed:
      return "failed";
    case Status::kOtherVersion:
      return "other-version";
  }
  return "";
}

RunState read_run_state(const Run& run, const fs::path& directory, const std::string& version) {
  RunState state;
  if (run.role == Role::kSpeed) {
    read_benchmark(directory, state);
  } else {
    read_evaluation(run, directory, state);
  }
  if (state.status == Status::kDone) {
    if (state.version != version) state.status = Status::kOtherVersion;
  } else if (const auto reason = text_of(directory / kFailedFile)) {
    state.status = Status::kFailed;
    state.reason = reason->substr(0, reason->find('\n'));
  }
  return state;
}

bool training_done(const Run& run, const fs::path& directory) {
  std::error_code missing;
  const auto latest = fs::read_symlink(directory / "checkpoints" / "latest", missing);
  return !missing && latest.filename() == fs::path(checkpoint_name(run.steps)).filename();
}

std::string version_of(const std::string& version_text) {
  const auto line = version_text.substr(0, version_text.find('\n'));
  const auto label = line.find_first_of(' ');
  if (label == std::string::npos) return line;
  const auto begin = line.find_first_not_of(' ', label);
  return begin == std::string::npos ? "" : line.substr(begin);
}

}  // namespace sluice::study
