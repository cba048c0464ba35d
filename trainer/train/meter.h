#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "parallel/nvml.h"
#include "trainer/model/flops.h"
#include "trainer/train/options.h"
#include "trainer/train/peaks.h"
#include "trainer/train/step.h"

namespace sluice::train {

/// What a step's line of metrics says beside the step's own result. Of rank 0 and its device, but for
/// tokens_per_s.
struct StepMetrics {
  double tokens_per_s = 0;  ///< all ranks
  double tokens_per_s_per_gpu = 0;
  double flops_per_s = 0;                 ///< useful ones, of one device
  std::optional<double> mfu{};            ///< useful FLOPs / measured peak
  std::optional<double> hfu{};            ///< executed FLOPs / measured peak
  std::optional<double> mfu_datasheet{};  ///< useful FLOPs / the data sheet's dense peak
  std::int64_t peak_memory_bytes = 0;     ///< allocated at once, at most, so far
  std::optional<double> power_w{};
  /// Of the device, for a token of its own, since the last one given.
  std::optional<double> energy_per_token_j{};
};

/// What throughput comes to on this machine: a pure function.
struct Workload {
  model::FlopCount flops;
  std::int64_t step_tokens = 0;  ///< all ranks
  std::int64_t world_size = 1;
};
/// Of a run on `world_size` ranks, each on such a device, that computes in `compute`.
[[nodiscard]] Workload workload_of(const RunOptions& options, std::int64_t vocabulary_size,
                                   std::int64_t world_size, const c10::Device& device,
                                   c10::ScalarType compute);
[[nodiscard]] StepMetrics step_metrics(const Workload& workload, const Peaks& peaks, double step_s);

/// Adds memory, power and energy of a device to that.
class StepMeter {
 public:
  StepMeter(const Workload& workload, Peaks peaks, const c10::Device& device);
  /// As it would be with this power meter, null for none.
  StepMeter(const Workload& workload, Peaks peaks, const c10::Device& device,
            std::unique_ptr<parallel::PowerMeter> power, std::chrono::nanoseconds energy_interval);

  /// Of the step that has just ended. Asks the driver once an interval, of a second if not said otherwise:
  /// its counter moves in steps of about 0.1 s, and asking takes host time.
  [[nodiscard]] StepMetrics observe(const StepResult& result);

 private:
  using Clock = std::chrono::steady_clock;

  Workload workload_;
  Peaks peaks_;
  c10::Device device_;
  std::unique_ptr<parallel::PowerMeter> power_;
  std::chrono::nanoseconds interval_;
  Clock::time_point asked_;
  std::optional<double> energy_then_;
  std::int64_t steps_since_ = 0;
};

}  // namespace sluice::train
