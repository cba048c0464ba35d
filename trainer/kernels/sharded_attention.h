#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/kernels/mixing.h"
#include "trainer/kernels/sequence_exchange.h"

namespace sluice::kernels {

/// attention() of sequences of which this rank holds some positions: q, k, v [B, H, t, k] in the order of
/// SequenceRows::held -> [B, H, t, k]. `bias_Hnn`: of the whole sequence, or undefined. Without q and k the
/// bias alone mixes (attention_by_position). Under kAllToAll, where the ranks divide the heads, each gets all
/// positions of its heads, attends as one rank does (no scores where that holds none) and gives the results
/// back: 4 (ranks - 1) / ranks t H k elements of one pass leave a rank, as many in backward. Else keys and
/// values are gathered (and their gradients summed), 2 (ranks - 1) t H k elements, and scores [B, H, t, n]
/// are held.
[[nodiscard]] at::Tensor sharded_attention(const at::Tensor& q_BHtk, const at::Tensor& k_BHtk,
                                           const at::Tensor& v_BHtk, Mixing mixing,
                                           const SequenceExchange& exchange, const at::Tensor& bias_Hnn = {});

/// The positions that this rank holds, int64 on `device`.
[[nodiscard]] at::Tensor held_positions(const SequenceExchange& exchange, at::Device device);

}  // namespace sluice::kernels
