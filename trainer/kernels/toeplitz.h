#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace sluice::kernels {

/// A Toeplitz matrix's weights [..., 2 n - 1] -> its left upper part [..., T, T], T <= n, differentiable:
/// W[i, j] = w[n - 1 + j - i], as appendix C of arXiv 2105.08050 builds it: w[n - 1] is the diagonal, what
/// stands before it weighs earlier positions, what stands behind it later ones.
[[nodiscard]] at::Tensor toeplitz(const at::Tensor& weights, std::int64_t positions);

/// Of the W of one head: its weights, and not all of it.
[[nodiscard]] inline bool is_toeplitz(const at::Tensor& weight) { return weight.dim() == 1; }

/// The positions n that so many weights are of: (2 n - 1 + 1) / 2.
[[nodiscard]] inline std::int64_t toeplitz_positions(const at::Tensor& weights) {
  return (weights.size(-1) + 1) / 2;
}

}  // namespace sluice::kernels
