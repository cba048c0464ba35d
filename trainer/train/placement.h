#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <string>

#include "parallel/communicator.h"
#include "trainer/kernels/fp8_products.h"
#include "trainer/train/options.h"

namespace sluice::train {

/// Where a replica lives and in which types it computes.
struct Placement {
  at::Device device = at::kCPU;
  at::ScalarType master = at::kFloat;    ///< parameters, gradients and moments: float32 or float64
  at::ScalarType compute = at::kFloat;   ///< products and activations: master, or bfloat16
  at::ScalarType residual = at::kFloat;  ///< residual stream under bfloat16: float32 or bfloat16
  kernels::ChannelProducts products = kernels::ChannelProducts::kFull;
  /// Whose exchange_buffer() holds the flat buffers of a training replica; none: they are not exchanged.
  parallel::Communicator* exchange = nullptr;

  Placement() = default;
  /// On the CPU, all of one type.
  Placement(at::ScalarType dtype) : master(dtype), compute(dtype) {}  // NOLINT: a type is a place on the CPU
};

/// train.precision on `device`; also sets LibTorch's process-wide switches of product precision. fp32: full
/// products. tf32: operands of products rounded to 10 bits (CUDA). bf16: compute in bfloat16 with fp32 sums,
/// split ones included (CUDA). fp8: as bf16, but a gMLP's channel products forward and for their input's
/// gradient in fp8 (CUDA, compute capability 8.9 and up). fp64 (CPU). The device need not be there. Throws
/// InputError for a precision that its kind does not have.
[[nodiscard]] Placement placement_for(const std::string& precision, at::Device device);
/// The same for train.precision and train.residual_dtype.
[[nodiscard]] Placement placement_for(const TrainOptions& options, at::Device device);
/// Throws InputError where the device, which must be there, has no fp8 and the placement's products are of
/// it.
void check_products(const Placement& placement);

}  // namespace sluice::train
