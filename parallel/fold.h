#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>

#include "parallel/communicator.h"

namespace sluice::parallel {

/// accumulator[i] = accumulator[i] op values[i] for `count` elements of `type` (float32, float64, int64,
/// int32). The buffers do not overlap. Integers wrap; kMin and kMax keep NaN.
void fold(void* accumulator, const void* values, std::int64_t count, at::ScalarType type, ReduceOp op);

}  // namespace sluice::parallel
