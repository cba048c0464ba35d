#pragma once

#include <optional>
#include <vector>

#include "trainer/kernels/peak.h"
#include "trainer/study/plan/cluster.h"
#include "trainer/train/options.h"
#include "trainer/train/step.h"

// From measurements to what a cluster file says (docs/plan.md). Pure.

namespace sluice::cli {

struct TimedProduct {
  kernels::GemmShape shape;
  double seconds = 0;
};

/// Sets gemm_flops_per_s and gemm_bytes_per_s: of seconds = flops / a + bytes / b the least squares of
/// relative errors, neither part negative. Needs two shapes of another ratio of FLOPs to bytes.
void fit_products(const std::vector<TimedProduct>& products, double element_bytes, study::plan::Device& gpu);

/// Seconds of a middling step by cause, data_wait with `other`: means over the half of the steps that are
/// neither among the quickest quarter nor the slowest. They add up to a step, as medians of each cause would
/// not where a device at its power limit slows now one and now another. `steps` must not be empty.
struct StepCauses {
  double forward_s = 0;
  double backward_s = 0;
  double comm_exposed_s = 0;
  double optimizer_s = 0;
  double other_s = 0;
  double step_s = 0;
};
[[nodiscard]] StepCauses middling_step(std::vector<train::StepResult> steps);

/// What makes one rank slower than the others in a step, and not all of them: seconds of each step and rank
/// over the rank's median, of several ranks over the mean of all in that step too, and as widely spread about
/// it as single ranks are about a mean that they are no part of. `seconds_RS`: of each rank each step, as
/// many of all.
[[nodiscard]] std::vector<double> spread_of_ranks(std::vector<std::vector<double>> seconds_RS);

/// Middling steps of a run of `options` (parallel.sp = 1), seconds, means over the ranks.
struct MeasuredSteps {
  train::RunOptions options;
  std::int64_t micro_batches = 1;
  StepCauses step = {};
};

/// Three runs of one model on the same ranks.
struct Calibration {
  std::int64_t vocabulary_size = 0;
  std::int64_t ranks = 1;
  MeasuredSteps once;                 ///< a micro-batch a step
  MeasuredSteps twice;                ///< two of them: what backward takes that no reduction disturbs
  std::optional<MeasuredSteps> half;  ///< two of half the sequences: what does not grow with them
};

/// Fits what real steps tell, of a cluster whose products, copies and links are known: pass factors and times
/// of a layer (once's forward and the undisturbed backward are then met exactly, where neither is negative),
/// update rate, what is left of a step, and the slow-down of backward during reductions.
void fit_steps(const Calibration& measured, study::plan::Cluster& cluster);

/// At most `count` of them at equal distances in their order, first and last included.
[[nodiscard]] std::vector<double> thinned(std::vector<double> samples, std::int64_t count);

}  // namespace sluice::cli
