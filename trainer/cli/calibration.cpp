#include "trainer/cli/calibration.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "trainer/cli/plan_workload.h"
#include "trainer/train/quantile.h"

namespace sluice::cli {
namespace {

using study::plan::Cluster;
using study::plan::Device;
using study::plan::Workload;

constexpr double kMostRate = 1e18;
constexpr double kMostSlowdown = 10;

/// What of a micro-batch beside its products grows with it, and what does not.
struct PassFit {
  double factor = 0;
  double layer_s = 0;
};

struct Rest {
  double seconds = 0;  ///< that products leave
  double copy_s = 0;   ///< of its elementwise passes' bytes
};

/// The line through both; where a part of it would be negative, or without `small`, in proportion to `large`.
PassFit fit_passes(const Rest& large, const std::optional<Rest>& small, double layers) {
  const double whole = std::max(0.0, large.seconds);
  if (!small) return {.factor = whole / large.copy_s};
  const double slope = (large.seconds - small->seconds) / (large.copy_s - small->copy_s);
  const double fixed = large.seconds - slope * large.copy_s;
  if (fixed < 0 || slope < 0) return {.factor = whole / large.copy_s};
  return {.factor = slope, .layer_s = fixed / layers};
}

/// A micro-batch's forward, and the backward that nothing disturbs.
struct Undisturbed {
  double forward_s = 0;
  double backward_s = 0;
};

/// Products of a micro-batch alone: what predict_step() says where passes and layers cost nothing.
Undisturbed product_seconds(const Workload& work, const Cluster& cluster) {
  Cluster bare = cluster;
  bare.gpu.forward_pass_factor = bare.gpu.backward_pass_factor = 0;
  bare.gpu.forward_layer_s = bare.gpu.backward_layer_s = 0;
  Workload alone = work;
  alone.layout = {};
  alone.buckets.clear();
  const auto step = study::plan::predict_step(alone, bare);
  return {.forward_s = step.forward_s, .backward_s = step.backward_s};
}

/// By how much the reduction of its buckets prolongs a backward.
double disturbance(const Calibration& measured) {
  if (measured.ranks == 1) return 0;
  const double undisturbed = measured.twice.step.backward_s - measured.once.step.backward_s;
  return std::clamp(measured.once.step.backward_s - undisturbed, 0.0, measured.once.step.backward_s / 2);
}

/// The least slow-down, to a percent, whose simulated backward takes as long as the measured one.
double fit_slowdown(const Workload& work, double backward_s, Cluster cluster) {
  constexpr double kStep = 0.01;
  for (double slowdown = 1; slowdown < kMostSlowdown; slowdown += kStep) {
    cluster.gpu.overlap_slowdown = slowdown;
    if (study::plan::predict_step(work, cluster).backward_s >= backward_s) return slowdown;
  }
  return 1;  // too little is hidden to tell
}

Rest rest_of(double seconds, double product_s, double bytes, const Device& gpu) {
  return {.seconds = seconds - product_s, .copy_s = bytes / gpu.copy_bytes_per_s};
}

}  // namespace

void fit_products(const std::vector<TimedProduct>& products, double element_bytes, Device& gpu) {
  // Weights 1 / seconds^2: every shape counts alike.
  double ff = 0, fb = 0, bb = 0, f = 0, b = 0;
  for (const TimedProduct& one : products) {
    const double flops = one.shape.flops() / one.seconds;
    const double bytes = one.shape.elements() * element_bytes / one.seconds;
    ff += flops * flops;
    fb += flops * bytes;
    bb += bytes * bytes;
    f += flops;
    b += bytes;
  }
  const double spread = ff * bb - fb * fb;
  double per_flop = spread > 0 ? (f * bb - b * fb) / spread : f / ff;
  double per_byte = spread > 0 ? (b * ff - f * fb) / spread : 0;
  if (per_byte < 0) {
    per_byte = 0;
    per_flop = f / ff;
  } else if (per_flop < 0) {
    per_flop = 0;
    per_byte = b / bb;
  }
  gpu.gemm_flops_per_s = per_flop > 0 ? std::min(kMostRate, 1 / per_flop) : kMostRate;
  gpu.gemm_bytes_per_s = per_byte > 0 ? std::min(kMostRate, 1 / per_byte) : kMostRate;
}

StepCauses middling_step(std::vector<train::StepResult> steps) {
  std::ranges::sort(steps, {}, &train::StepResult::step_s);
  const std::size_t quarter = steps.size() / 4;
  const std::span<const train::StepResult> half =
      std::span(steps).subspan(quarter, steps.size() - 2 * quarter);
  StepCauses sum;
  for (const train::StepResult& step : half) {
    sum.forward_s += step.forward_s;
    sum.backward_s += step.backward_s;
    sum.comm_exposed_s += step.comm_exposed_s;
    sum.optimizer_s += step.optimizer_s;
    sum.other_s += train::other_s(step) + step.data_wait_s;
    sum.step_s += step.step_s;
  }
  const auto count = static_cast<double>(half.size());
  return {.forward_s = sum.forward_s / count,
          .backward_s = sum.backward_s / count,
          .comm_exposed_s = sum.comm_exposed_s / count,
          .optimizer_s = sum.optimizer_s / count,
          .other_s = sum.other_s / count,
          .step_s = sum.step_s / count};
}

std::vector<double> spread_of_ranks(std::vector<std::vector<double>> seconds_RS) {
  for (auto& own : seconds_RS) {
    const double median = train::quantile(own, 0.5);
    for (double& one : own) one /= median;
  }
  const auto ranks = static_cast<double>(seconds_RS.size());
  std::vector<double> all;
  for (std::size_t step = 0; step < seconds_RS.front().size(); ++step) {
    double mean = 0;
    for (const auto& own : seconds_RS) mean += own[step] / ranks;
    for (const auto& own : seconds_RS)
      all.push_back(ranks > 1 ? 1 + (own[step] / mean - 1) * std::sqrt(ranks / (ranks - 1)) : own[step]);
  }
  return all;
}

void fit_steps(const Calibration& measured, Cluster& cluster) {
  const auto work_of = [&](const MeasuredSteps& steps) {
    return plan_workload(steps.options, measured.vocabulary_size, measured.ranks, cluster);
  };
  Device& gpu = cluster.gpu;
  const Workload work = work_of(measured.once);
  const Undisturbed products = product_seconds(work, cluster);
  const double disturbed = disturbance(measured);
  const double backward_s = measured.once.step.backward_s - disturbed;
  const Rest forward = rest_of(measured.once.step.forward_s, products.forward_s, work.forward_bytes, gpu);
  const Rest backward = rest_of(backward_s, products.backward_s, work.backward_bytes, gpu);
  std::optional<Rest> half_forward, half_backward;
  if (measured.half) {
    const Workload half = work_of(*measured.half);
    const Undisturbed of_half = product_seconds(half, cluster);
    const auto times = static_cast<double>(measured.half->micro_batches);
    half_forward = rest_of(measured.half->step.forward_s / times, of_half.forward_s, half.forward_bytes, gpu);
    half_backward = rest_of((measured.half->step.backward_s - disturbed) / times, of_half.backward_s,
                            half.backward_bytes, gpu);
  }
  const PassFit ahead = fit_passes(forward, half_forward, work.layers);
  const PassFit back = fit_passes(backward, half_backward, work.layers);
  gpu.forward_pass_factor = ahead.factor;
  gpu.forward_layer_s = ahead.layer_s;
  gpu.backward_pass_factor = back.factor;
  gpu.backward_layer_s = back.layer_s;
  gpu.update_bytes_per_s = work.update_bytes / measured.once.step.optimizer_s;
  gpu.step_overhead_s =
      std::max(0.0, measured.once.step.other_s - work.gradient_bytes / gpu.copy_bytes_per_s);
  gpu.overlap_slowdown = disturbed > 0 ? fit_slowdown(work, measured.once.step.backward_s, cluster) : 1;
}

std::vector<double> thinned(std::vector<double> samples, std::int64_t count) {
  std::ranges::sort(samples);
  const auto size = static_cast<std::int64_t>(samples.size());
  if (size <= count) return samples;
  std::vector<double> some;
  for (std::int64_t i = 0; i < count; ++i)
    some.push_back(samples[static_cast<std::size_t>(i * (size - 1) / (count - 1))]);
  return some;
}

}  // namespace sluice::cli
