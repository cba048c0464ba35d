#pragma once

#include <c10/core/ScalarType.h>

#include "trainer/kernels/fp8_products.h"
#include "trainer/kernels/recompute.h"

namespace sluice::model {

/// How a model computes, beside the type of its parameters.
struct Computing {
  kernels::Recompute recompute = kernels::Recompute::kNone;
  /// Of the residual stream where the parameters are bfloat16: float32 or bfloat16. Else it is theirs.
  at::ScalarType residual = at::kFloat;
  kernels::ChannelProducts products = kernels::ChannelProducts::kFull;

  Computing() = default;
  Computing(kernels::Recompute given) : recompute(given) {}  // NOLINT: all else as ever
};

}  // namespace sluice::model
