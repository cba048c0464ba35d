#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "trainer/train/sink.h"

namespace sluice::cli {

/// Tells a person how a run goes: on a terminal one line that is rewritten in place, else a line now and
/// then.
class TrainProgress : public train::TrainSink {
 public:
  TrainProgress();

  void warned(const std::string& message) override;
  void told(const std::string& message) override;
  void started(const train::RunSummary& summary) override;
  void stepped(std::int64_t steps, const train::StepResult& result,
               const train::StepMetrics& metrics) override;
  void evaluated(std::int64_t steps, const train::Validation& validation) override;
  void checkpointed(std::int64_t steps, const std::filesystem::path& directory) override;
  void ended(train::TrainOutcome outcome, std::int64_t steps) override;

 private:
  using Clock = std::chrono::steady_clock;
  enum class Display { kInPlace, kLines };

  void show(const std::string& line);
  void say(const std::string& line);
  void say_data();
  [[nodiscard]] std::string step_line(std::int64_t steps, const train::StepResult& result,
                                      const train::StepMetrics& metrics) const;

  Display display_;
  bool in_place_ = false;  ///< an unfinished line stands on the terminal
  train::RunSummary summary_;
  Clock::time_point start_;
  Clock::time_point last_line_;
  double step_s_ = 0;  ///< smoothed
};

}  // namespace sluice::cli
