#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/kernels/mixing.h"
#include "trainer/kernels/sequence_exchange.h"

// The product over positions by a ring: blocks of the gate go from rank r to rank r - 1, so that in step s
// rank r multiplies the block of rank r + s while the next one is on its way. Of a causal mixing rank r needs
// the tails of ranks r and above alone, and a tail goes no further than to rank 0. Sums of the gate's
// gradient go the other way round and end where they belong. Of W a rank has the rows of its positions
// [t, n], in the order of SequenceRows::held.
namespace sluice::kernels {

/// Own rows of W v: [B, t, c].
[[nodiscard]] at::Tensor ring_mixed(const at::Tensor& gate_Btc, const at::Tensor& weight_tn, Mixing mixing,
                                    const SequenceExchange& exchange);
/// sum [t, n] += own rows of dy v^T over the batch.
void ring_weight_gradient(const at::Tensor& sum_tn, const at::Tensor& dmixed_Btc, const at::Tensor& gate_Btc,
                          Mixing mixing, const SequenceExchange& exchange);
/// Own rows of W^T dy: [B, t, c].
[[nodiscard]] at::Tensor ring_input_gradient(const at::Tensor& dmixed_Btc, const at::Tensor& weight_tn,
                                             Mixing mixing, const SequenceExchange& exchange);

}  // namespace sluice::kernels
