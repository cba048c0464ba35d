#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace sluice::kernels {

/// A target that counts as zero and gives no gradient.
inline constexpr std::int64_t kIgnoredTarget = -100;

/// The sum over rows of -log softmax(x W^T + b)[target], a scalar in float64 if x is, float32 otherwise;
/// softmax and sum in that type too. x_Td, weight_Vd (and bias_V, or undefined) of one dtype: float32,
/// float64 or bfloat16; targets_T int64, kIgnoredTarget or in [0, V): another one throws c10::Error on the
/// CPU and makes the loss NaN on a GPU.
/// Logits exist for `chunk_rows` rows at a time (0: rows_of_chunk). Where
/// gradients are recorded forward computes them too, chunk by chunk, and backward only scales them; they are
/// held and summed over chunks in the loss's type. W's is added to its leaf's sum where that is wider than
/// the leaf.
[[nodiscard]] at::Tensor linear_cross_entropy(const at::Tensor& x_Td, const at::Tensor& weight_Vd,
                                              const at::Tensor& bias_V, const at::Tensor& targets_T,
                                              std::int64_t chunk_rows = 0);

/// The terms of that sum, one for each row, in its type. No autograd.
[[nodiscard]] at::Tensor linear_cross_entropy_of_rows(const at::Tensor& x_Td, const at::Tensor& weight_Vd,
                                                      const at::Tensor& bias_V, const at::Tensor& targets_T);

/// Rows whose logits of `vocabulary` elements of `type` are held at a time: as many whole tiles of 128 as 256
/// MiB hold, at least 1,024.
[[nodiscard]] std::int64_t rows_of_chunk(std::int64_t vocabulary, at::ScalarType type);

}  // namespace sluice::kernels
