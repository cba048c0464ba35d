#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <string>

#include "parallel/communicator.h"

namespace sluice::train {

/// Where a replica lives and in which types it computes.
struct Placement {
  at::Device device = at::kCPU;
  at::ScalarType master = at::kFloat;   ///< parameters, gradients and moments: float32 or float64
  at::ScalarType compute = at::kFloat;  ///< products and activations: master, or bfloat16
  /// Whose exchange_buffer() holds the flat buffers of a training replica; none: they are not exchanged.
  parallel::Communicator* exchange = nullptr;

  Placement() = default;
  /// On the CPU, all of one type.
  Placement(at::ScalarType dtype) : master(dtype), compute(dtype) {}  // NOLINT: a type is a place on the CPU
};

/// train.precision on `device`; also sets LibTorch's process-wide switches of product precision. fp32: full
/// products. tf32: operands of products rounded to 10 bits (CUDA). bf16: compute in bfloat16 with fp32 sums,
/// split ones included (CUDA). fp64 (CPU). Throws InputError for a precision that the device does not have.
[[nodiscard]] Placement placement_for(const std::string& precision, at::Device device);

}  // namespace sluice::train
