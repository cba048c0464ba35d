#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "trainer/cli/study_claim.h"
#include "trainer/study/experiment/study_json.h"
#include "trainer/train/options.h"

namespace sluice::cli {

/// Where a run computes, beside others.
struct JobPlace {
  std::int64_t slot = 0;     ///< of those side by side
  std::int64_t threads = 0;  ///< of a rank, where the study file does not say; 0: the program's choice
  std::int64_t gpus = 0;     ///< dealt out to slots; 0: all are seen
  std::string launch{};      ///< as in StudyRunOptions
};

enum class JobEnd { kSucceeded, kStopped, kFailed };

/// One run on its way: `sluice train`, then `sluice eval` of the whole valid split into eval.json; or `sluice
/// bench step` into bench.json. What they say goes to RUN/submit.log.
class StudyJob {
 public:
  /// Writes submit.ini and starts what is missing. Throws std::system_error when that cannot be done.
  StudyJob(study::StudyRun run, RunClaim claim, JobPlace place, std::string version);

  [[nodiscard]] const study::StudyRun& run() const { return run_; }
  [[nodiscard]] std::int64_t slot() const { return place_.slot; }
  [[nodiscard]] double seconds() const;
  /// How it ended, nullopt while it runs; after training it goes on with the evaluation unless `stopping`.
  /// Of a failed one submit.failed has the reason.
  enum class Next { kGoOn, kStop };
  [[nodiscard]] std::optional<JobEnd> poll(Next next);
  /// Asks what runs now to stop.
  void signal(int number) const;

 private:
  enum class Stage { kTrain, kEval, kBench };
  void begin(Stage stage);
  [[nodiscard]] std::vector<std::string> words(Stage stage) const;
  void complete(Stage stage) const;
  void write_failure(int code) const;

  study::StudyRun run_{};
  RunClaim claim_;
  JobPlace place_;
  std::string version_{};
  train::RunOptions options_;
  Stage stage_ = Stage::kTrain;
  pid_t child_ = 0;
  std::int64_t log_begin_ = 0;  ///< bytes of submit.log before this stage
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

/// "exit code 1: " and the last line of the log that is the program's, else the last that says something.
[[nodiscard]] std::string last_words(int code, const std::string& log);

/// Words for the shell, each quoted.
[[nodiscard]] std::string shell_text(const std::vector<std::string>& words);

}  // namespace sluice::cli
