#pragma once

#include <ATen/core/Tensor.h>

// The passes of a block between its products, differentiable, by own kernels (block_kernels.h).
namespace sluice::kernels {

/// Layer norm over the last dimension, by ATen where there is no own kernel, statistics and sums in float32
/// at least, the result in weight's type. x contiguous; weight and bias of x's type, or of bfloat16 beside a
/// float32 x.
[[nodiscard]] at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                    double eps);

/// u * (s + b) with one b for each position (arXiv 2105.08050, section 2.1, equation 1): u, s [B, T, h], bias
/// [T], such that has_gate_kernel(u).
[[nodiscard]] at::Tensor gate(const at::Tensor& u_BTh, const at::Tensor& s_BTh, const at::Tensor& bias_T);

}  // namespace sluice::kernels
