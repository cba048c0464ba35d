#pragma once

#include <optional>
#include <vector>

#include "trainer/kernels/peak.h"
#include "trainer/study/plan/cluster.h"
#include "trainer/train/options.h"

// From measurements to what a cluster file says (docs/plan.md). Pure.

namespace sluice::cli {

struct TimedProduct {
  kernels::GemmShape shape;
  double seconds = 0;
};

/// Sets gemm_flops_per_s and gemm_bytes_per_s: of seconds = flops / a + bytes / b the least squares of
/// relative errors, neither part negative. Needs two shapes of another ratio of FLOPs to bytes.
void fit_products(const std::vector<TimedProduct>& products, double element_bytes, study::plan::Device& gpu);

/// Medians over the steps of a run of `options` (parallel.sp = 1), seconds, means over the ranks.
struct MeasuredSteps {
  train::RunOptions options;
  std::int64_t micro_batches = 1;
  double forward_s = 0;
  double backward_s = 0;
  double comm_exposed_s = 0;
  double optimizer_s = 0;
  double other_s = 0;  ///< with data_wait
  double step_s = 0;
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
/// of a layer (once.forward_s and the undisturbed backward are then met exactly, where neither is negative),
/// update rate, what is left of a step, and the slow-down of backward during reductions.
void fit_steps(const Calibration& measured, study::plan::Cluster& cluster);

/// At most `count` of them at equal distances in their order, first and last included.
[[nodiscard]] std::vector<double> thinned(std::vector<double> samples, std::int64_t count);

}  // namespace sluice::cli
