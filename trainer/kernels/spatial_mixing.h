#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "trainer/kernels/mixing.h"

// Products over positions by ATen operators that record autograd. Shape suffixes: B batch, T positions of
// this call (T <= n), c channels, h heads.
namespace sluice::kernels {

enum class SpatialKind {
  kFree,      ///< n^2 weights
  kToeplitz,  ///< 2 n - 1 weights (toeplitz.h): what a weight is depends on the distance alone
};

/// W and b of arXiv 2105.08050, equation 2. Heads take equal, contiguous groups of channels, each with its
/// own W and b.
struct SpatialMix {
  at::Tensor weight;  ///< [n, n], [position of the output, position of the input]; kToeplitz: [2 n - 1]; of
                      ///< several heads [h, n, n] and [h, 2 n - 1]
  at::Tensor bias;    ///< [n], one scalar for each position; of several heads [h, n]
  SpatialKind kind = SpatialKind::kFree;
  std::int64_t heads = 1;
  Mixing mixing = Mixing::kCausal;
};

/// W[:T, :T] v + b[:T] for all positions, v [B, T, c] -> [B, T, c]. Throws c10::Error where heads do not
/// divide the channels.
[[nodiscard]] at::Tensor mix_positions(const at::Tensor& gate_BTc, const SpatialMix& mix);

/// The last row of a causal mix_positions, of one sequence: [T, c] -> [c], from one row of W and one element
/// of b.
[[nodiscard]] at::Tensor mix_last_position(const at::Tensor& gate_Tc, const SpatialMix& mix);

}  // namespace sluice::kernels
