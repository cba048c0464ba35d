#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/kernels/dropout.h"
#include "trainer/kernels/mixing.h"

// Multi-head attention (Vaswani et al. 2017, 3.2) and rotary positions (Su et al. 2021, 3.2.2),
// differentiable. Shape suffixes: B batch, H heads, T positions, S positions seen, k channels of a head.
namespace sluice::kernels {

/// softmax(q k' / sqrt(channels of a head) + bias) v: [B, H, T, k] in q's type. bfloat16 on a GPU runs ATen's
/// flash kernel, whose backward is made deterministic here: the same bits on every run. Elsewhere, or where a
/// head has no multiple of 8 channels up to 256, scores are held, and their softmax is taken in float32 at
/// least. kCausal: T = S, query i sees the keys j <= i. An active `weights_dropout` drops of the softmax.
/// Scores are held then, too, and with a bias_HTS of float32 at least (undefined: none).
[[nodiscard]] at::Tensor attention(const at::Tensor& q_BHTk, const at::Tensor& k_BHSk,
                                   const at::Tensor& v_BHSk, Mixing mixing,
                                   const Dropout& weights_dropout = {}, const at::Tensor& bias_HTS = {});

/// softmax(bias) v, what is left of attention without queries and keys: the same mixing for every sample.
[[nodiscard]] at::Tensor attention_by_position(const at::Tensor& bias_HTS, const at::Tensor& v_BHSk,
                                               Mixing mixing, const Dropout& weights_dropout = {});

/// Cosines and sines of position x frequency, [positions, channels / 2] each.
struct RotaryTable {
  at::Tensor cos;
  at::Tensor sin;
};
/// Angles t * base^(-2 c / channels), computed in float64 and rounded to the type of `options`; channels
/// even.
[[nodiscard]] RotaryTable rotary_table(std::int64_t positions, std::int64_t channels, double base,
                                       const at::TensorOptions& options);

/// Channel c of the first half and channel c of the second half of x_BTHk, as a pair, turned by the angle of
/// (position, c); the table's T positions are x's. Result in x's type, computed in the table's.
[[nodiscard]] at::Tensor rotate(const at::Tensor& x_BTHk, const RotaryTable& table);

}  // namespace sluice::kernels
