#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "trainer/kernels/fused_passes.h"

// The passes of fused_passes.h on a CPU, in float32: what has_fused_passes and the passes do for tensors that
// lie there, in every build. Widths of any size, rows at any stride. A pass reads and writes every tensor
// once, on LibTorch's threads; sums are added in an order that depends on the shapes and the processor's
// instruction set, not on the number of threads. GELU and its slope are within 4e-7 of 1, or of the value.
namespace sluice::kernels::host {

/// On this processor: an x86 with AVX2.
[[nodiscard]] bool has_passes();
[[nodiscard]] bool has_passes(const at::Tensor& x, at::ScalarType compute, at::IntArrayRef widths);

[[nodiscard]] ResidualNorm residual_norm_forward(const at::Tensor& x, const at::Tensor& branch,
                                                 const at::Tensor& branch_bias, const at::Tensor& weight,
                                                 const at::Tensor& bias, double eps);
[[nodiscard]] ResidualGradient residual_norm_backward(const at::Tensor& dy, const at::Tensor& dsum,
                                                      const at::Tensor& sum, const at::Tensor& weight,
                                                      const at::Tensor& statistics,
                                                      const ResidualNormSums& sums);
[[nodiscard]] GeluNorm gelu_norm_forward(const at::Tensor& input, const at::Tensor& weight,
                                         const at::Tensor& bias, double eps);
void gelu_norm_forward_into(const GeluNorm& out, const at::Tensor& again, const at::Tensor& input,
                            const at::Tensor& weight, const at::Tensor& bias, double eps);
void gelu_norm_backward(const at::Tensor& dy, const at::Tensor& input, const at::Tensor& weight,
                        const at::Tensor& statistics, const at::Tensor& dinput, const GeluNormSums& sums);
[[nodiscard]] at::Tensor gate_forward(const at::Tensor& input, const at::Tensor& mixed,
                                      const at::Tensor& bias, std::int64_t positions);
[[nodiscard]] GateGradient gate_backward(const at::Tensor& dz, const at::Tensor& input,
                                         const at::Tensor& mixed, const at::Tensor& bias,
                                         std::int64_t positions, const at::Tensor& dinput,
                                         const GateSums& sums);

}  // namespace sluice::kernels::host
