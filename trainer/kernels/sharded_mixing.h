#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "trainer/kernels/sequence_exchange.h"
#include "trainer/kernels/spatial_mixing.h"

namespace sluice::kernels {

/// mix_positions over sequences of which this rank holds some positions: the gate's rows [B, t, c] in the
/// order of SequenceRows::held -> the same rows of W v + b. Each rank passes in all of b, and all of W but
/// under kRowShard and kRing of a free one: there its own rows, [t, n] for each head. Gradients are its share
/// of what ranks have alike, and sum over them to the whole. Backward exchanges again: what came from other
/// ranks is not kept. Exchanged by a rank that has t of n positions, in elements of one pass forward:
///   kAllToAll   2 (ranks - 1) / ranks t c, and 3 (ranks - 1) / ranks t c in backward;
///   kRowShard   (ranks - 1) t c, twice that in backward;
///   kRing       the same, of a causal mixing only blocks that are multiplied.
/// Blocks above a causal diagonal are not multiplied. Throws c10::Error for a gate of another number of rows,
/// and for several heads under kAllToAll, which deals out channels.
[[nodiscard]] at::Tensor mix_sharded_positions(const at::Tensor& gate_Btc, const SpatialMix& mix,
                                               const SequenceExchange& exchange);

// What it is made of, without autograd. Weights are as the exchange multiplies them: under kAllToAll [n, n],
// or a Toeplitz matrix's [2 n - 1], otherwise the rank's rows of it, [t, n].

/// W v of own positions, [B, t, c].
[[nodiscard]] at::Tensor mixed_positions(const at::Tensor& gate_Btc, const at::Tensor& weight, Mixing mixing,
                                         const SequenceExchange& exchange);
/// The gate's gradient, [B, t, c]; that of W is added to `sum`, which is as the weight is given, of its type
/// or wider.
[[nodiscard]] at::Tensor mixing_gradient(const at::Tensor& dmixed_Btc, const at::Tensor& gate_Btc,
                                         const at::Tensor& weight, const at::Tensor& sum, Mixing mixing,
                                         const SequenceExchange& exchange);
/// What of b or W the rows of `strips` have, from all of it: `dim` runs over rows of outputs.
[[nodiscard]] at::Tensor held_part(const at::Tensor& whole, std::int64_t dim,
                                   const std::vector<Strip>& strips);

}  // namespace sluice::kernels
