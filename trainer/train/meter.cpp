#include "trainer/train/meter.h"

#include <utility>

#include "parallel/device_memory.h"
#include "parallel/gpu_tools.h"
#include "trainer/train/masking.h"
#include "trainer/train/replica.h"

namespace sluice::train {

Workload workload_of(const RunOptions& options, std::int64_t vocabulary_size, std::int64_t world_size,
                     const c10::Device& device, c10::ScalarType compute) {
  const double predicted =
      static_cast<double>(sample_form(options).targets) / static_cast<double>(options.model.seq_len);
  const bool shares_toeplitz = options.parallel.sp > 1 && options.model.spatial == "toeplitz";
  const model::SpatialRun spatial =
      shares_toeplitz ? model::SpatialRun{} : model::spatial_run(options.model, device, compute);
  return {.flops = model::count_flops(options.model, vocabulary_size, recompute_of(options.train), predicted,
                                      spatial),
          .step_tokens = options.train.global_batch * options.model.seq_len,
          .world_size = world_size};
}

StepMetrics step_metrics(const Workload& workload, const Peaks& peaks, double step_s) {
  StepMetrics metrics;
  metrics.tokens_per_s = static_cast<double>(workload.step_tokens) / step_s;
  metrics.tokens_per_s_per_gpu = metrics.tokens_per_s / static_cast<double>(workload.world_size);
  metrics.flops_per_s = workload.flops.useful_per_token * metrics.tokens_per_s_per_gpu;
  const auto share = [&](double flops_per_token, const std::optional<double>& peak) -> std::optional<double> {
    if (!peak) return std::nullopt;
    return model::flop_utilisation(flops_per_token, metrics.tokens_per_s_per_gpu, *peak);
  };
  metrics.mfu = share(workload.flops.useful_per_token, peaks.measured);
  metrics.hfu = share(workload.flops.executed_per_token, peaks.measured);
  metrics.mfu_datasheet = share(workload.flops.useful_per_token, peaks.datasheet);
  return metrics;
}

StepMeter::StepMeter(const Workload& workload, Peaks peaks, const c10::Device& device)
    : StepMeter(workload, std::move(peaks), device,
                device.is_cpu() ? nullptr : parallel::PowerMeter::open(parallel::pci_bus_id(device.index())),
                std::chrono::seconds(1)) {}

StepMeter::StepMeter(const Workload& workload, Peaks peaks, const c10::Device& device,
                     std::unique_ptr<parallel::PowerMeter> power, std::chrono::nanoseconds energy_interval)
    : workload_(workload),
      peaks_(std::move(peaks)),
      device_(device),
      power_(std::move(power)),
      interval_(energy_interval),
      asked_(Clock::now()) {
  if (power_) energy_then_ = power_->energy_j();
}

StepMetrics StepMeter::observe(const StepResult& result) {
  StepMetrics metrics = step_metrics(workload_, peaks_, result.step_s);
  metrics.peak_memory_bytes = parallel::peak_memory(device_).allocated_peak;
  ++steps_since_;
  if (!power_ || Clock::now() - asked_ < interval_) return metrics;
  metrics.power_w = power_->power_w();
  const std::optional<double> energy_now = power_->energy_j();
  if (energy_now && energy_then_) {
    const double own_tokens =
        static_cast<double>(steps_since_ * workload_.step_tokens) / static_cast<double>(workload_.world_size);
    metrics.energy_per_token_j = (*energy_now - *energy_then_) / own_tokens;
  }
  energy_then_ = energy_now;
  asked_ = Clock::now();
  steps_since_ = 0;
  return metrics;
}

}  // namespace sluice::train
