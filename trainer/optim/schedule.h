#pragma once

#include <cstdint>

#include "trainer/optim/options.h"

namespace sluice::optim {

/// Learning rate of step `step` (0-based) of `total_steps`: a pure function. Warm-up is linear from lr / warmup_steps to lr.
/// noam (inverse square root, "Attention Is All You Need", 5.3): lr * d_model^-0.5 * min(t^-0.5, t * warmup^-1.5), t = step + 1.
[[nodiscard]] double learning_rate(const OptimOptions& options, std::int64_t d_model, std::int64_t step,
                                   std::int64_t total_steps);

}  // namespace sluice::optim
