#pragma once

#include <filesystem>
#include <limits>
#include <string>

#include "trainer/study/experiment/run.h"

namespace sluice::study {

enum class Status { kWaiting, kRunning, kDone, kFailed, kOtherVersion };
[[nodiscard]] const char* status_name(Status status);

/// What has become of a run, read from its directory.
struct RunState {
  Status status = Status::kWaiting;
  std::string reason{};   ///< why it failed
  std::string version{};  ///< of the program that made it: "0.1.0 (commit 1a2b3c4d5e6f)"; empty: not known
  double loss = std::numeric_limits<double>::quiet_NaN();  ///< of the whole valid split, once it is done
};

/// Files of a study within a run directory. Their names let `sluice train` take the directory for its own.
inline constexpr const char* kSettingsFile = "submit.ini";
inline constexpr const char* kLogFile = "submit.log";
inline constexpr const char* kFailedFile = "submit.failed";  ///< the reason

/// kRunning is not told by files: whoever starts runs knows. A run is done with eval.json of its last step
/// (loss) or bench.json (speed); kOtherVersion: done by another program than `version`. Throws
/// train::InputError for files that are not what they should be.
[[nodiscard]] RunState read_run_state(const Run& run, const std::filesystem::path& directory,
                                      const std::string& version);

/// Whether training has ended and the evaluation is what is missing.
[[nodiscard]] bool training_done(const Run& run, const std::filesystem::path& directory);

/// The line of `sluice --version` that names the program, without its label.
[[nodiscard]] std::string version_of(const std::string& version_text);

}  // namespace sluice::study
