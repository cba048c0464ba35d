#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace sluice::kernels {

/// dropout() for tensors on a GPU: y[i] = draw >= threshold ? x[i] * scale : 0, x and y float32 or bfloat16.
/// In a build without CUDA it throws c10::Error.
void dropout_kernel(const at::Tensor& x, const at::Tensor& y, const at::Tensor& samples_B, std::uint64_t seed,
                    std::uint32_t site, std::uint32_t threshold, double scale);

}  // namespace sluice::kernels
