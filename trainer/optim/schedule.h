#pragma once

#include <cstdint>

#include "trainer/optim/options.h"

namespace sluice::optim {

/// Learning rate of step `step` (0-based) of `total_steps`: a pure function. All but noam first warm up, step
/// s < warmup_steps at lr * (s + 1) / warmup_steps. Then, with e = min_lr * lr:
///   constant  lr
///   linear    a straight line from lr at step warmup_steps to e at the last step
///   cosine    half a cosine between the same two points
///   wsd       lr until the last decay_fraction of the steps, then a straight line down to e at the last step
/// noam (inverse square root, "Attention Is All You Need", 5.3): lr * d_model^-0.5 * min(t^-0.5, t *
/// warmup^-1.5), t = step + 1. After the last step the rate stays as it was there. Constant, noam, and wsd
/// before its decay do not depend on total_steps. Throws std::invalid_argument for a negative step and for an
/// unknown schedule.
[[nodiscard]] double learning_rate(const OptimOptions& options, std::int64_t d_model, std::int64_t step,
                                   std::int64_t total_steps);

/// First step whose rate depends on total_steps (total_steps if none does): up to there a run may be made
/// longer.
[[nodiscard]] std::int64_t decay_begin(const OptimOptions& options, std::int64_t total_steps);

}  // namespace sluice::optim
