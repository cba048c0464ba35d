#include "trainer/train/meter.h"

#include <gtest/gtest.h>

namespace sluice::train {
namespace {

const c10::Device kCpu(c10::kCPU);
const Workload kWorkload{
    .flops = {.useful_per_token = 1e9, .executed_per_token = 1.5e9}, .step_tokens = 8000, .world_size = 4};
const StepResult kHalfASecond{.step_s = 0.5};

/// 300 W, 40 J from one question to the next.
class FakePower : public parallel::PowerMeter {
 public:
  [[nodiscard]] std::optional<double> power_w() const override { return 300.0; }
  [[nodiscard]] std::optional<double> energy_j() const override { return energy_ += 40; }

 private:
  mutable double energy_ = 1e6;
};

TEST(StepMetrics, AreSharesOfOneDevicesPeak) {
  const Peaks peaks{.device = "X", .measured = 8e12, .datasheet = 16e12};
  const StepMetrics metrics = step_metrics(kWorkload, peaks, 0.5);
  EXPECT_DOUBLE_EQ(metrics.tokens_per_s, 16000);
  EXPECT_DOUBLE_EQ(metrics.tokens_per_s_per_gpu, 4000);
  EXPECT_DOUBLE_EQ(metrics.flops_per_s, 4e12);
  EXPECT_DOUBLE_EQ(metrics.mfu.value(), 0.5);
  EXPECT_DOUBLE_EQ(metrics.hfu.value(), 0.75);
  EXPECT_DOUBLE_EQ(metrics.mfu_datasheet.value(), 0.25);
}

TEST(Workload, IsTheRunsOwn) {
  RunOptions options;
  options.train.global_batch = 6;
  options.model.seq_len = 5;
  const Workload none = workload_of(options, 300, 2, at::kCPU, at::kFloat);
  EXPECT_EQ(none.step_tokens, 30);
  EXPECT_EQ(none.world_size, 2);
  options.train.recompute = "gate";
  const Workload gate = workload_of(options, 300, 2, at::kCPU, at::kFloat);
  options.train.recompute = "block";
  const Workload block = workload_of(options, 300, 2, at::kCPU, at::kFloat);
  EXPECT_EQ(none.flops.executed_per_token, model::count_flops(options.model, 300).executed_per_token);
  EXPECT_GT(gate.flops.executed_per_token, none.flops.executed_per_token);
  EXPECT_GT(block.flops.executed_per_token, gate.flops.executed_per_token);
}

TEST(StepMetrics, WithoutAPeakHaveNoShares) {
  const StepMetrics metrics = step_metrics(kWorkload, {.device = "X", .measured = {}, .datasheet = {}}, 0.5);
  EXPECT_DOUBLE_EQ(metrics.flops_per_s, 4e12);
  EXPECT_FALSE(metrics.mfu);
  EXPECT_FALSE(metrics.hfu);
  EXPECT_FALSE(metrics.mfu_datasheet);
}

TEST(StepMeter, GivesEnergyPerTokenOfTheStepsSinceItLastDid) {
  StepMeter meter(kWorkload, {}, kCpu, std::make_unique<FakePower>(), std::chrono::nanoseconds(0));
  for (int step = 0; step < 2; ++step) {
    const StepMetrics metrics = meter.observe(kHalfASecond);
    EXPECT_DOUBLE_EQ(metrics.power_w.value(), 300);
    EXPECT_DOUBLE_EQ(metrics.energy_per_token_j.value(), 40.0 / (8000.0 / 4))
        << "40 J for this device's share";
    EXPECT_GT(metrics.peak_memory_bytes, 0);
  }
}

TEST(StepMeter, AsksForPowerOnceAnInterval) {
  StepMeter meter(kWorkload, {}, kCpu, std::make_unique<FakePower>(), std::chrono::hours(1));
  const StepMetrics metrics = meter.observe(kHalfASecond);
  EXPECT_FALSE(metrics.power_w);
  EXPECT_FALSE(metrics.energy_per_token_j);
}

TEST(StepMeter, WithoutAPowerMeterTellsTheRest) {
  StepMeter meter(kWorkload, {}, kCpu);
  const StepMetrics metrics = meter.observe(kHalfASecond);
  EXPECT_DOUBLE_EQ(metrics.tokens_per_s, 16000);
  EXPECT_FALSE(metrics.power_w);
}

TEST(StepResult, OtherIsWhatTheCausesLeave) {
  const StepResult result{
      .data_wait_s = 1, .forward_s = 2, .backward_s = 3, .comm_exposed_s = 4, .optimizer_s = 5, .step_s = 17};
  EXPECT_DOUBLE_EQ(other_s(result), 2);
}

}  // namespace
}  // namespace sluice::train
