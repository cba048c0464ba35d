#pragma once

#include <ATen/core/Tensor.h>

namespace sluice::kernels {

/// What is there where a gradient is to be added.
enum class Before {
  kSum,      ///< the sum so far
  kNothing,  ///< anything, in place of zeros: who is first writes over it
};

/// Where a leaf's gradient adds up.
struct GradientSum {
  at::Tensor sum;
  Before before = Before::kSum;
};

/// The memory as a sum so far, for those who can only add: zeroed now if nothing was there.
[[nodiscard]] at::Tensor begun_sum(const GradientSum& gradient);

}  // namespace sluice::kernels
