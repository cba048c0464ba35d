#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/kernels/mixing.h"
#include "trainer/kernels/sequence_exchange.h"

namespace sluice::kernels {

/// attention() of the queries that this rank holds over the keys and values of all ranks, which are gathered
/// (and their gradients summed): q, k, v [B, H, t, k] in the order of SequenceRows::held -> [B, H, t, k].
/// `bias_Hnn`: of the whole sequence, or undefined. Without q and k the bias alone mixes
/// (attention_by_position). Scores [B, H, t, n] are held.
[[nodiscard]] at::Tensor sharded_attention(const at::Tensor& q_BHtk, const at::Tensor& k_BHtk,
                                           const at::Tensor& v_BHtk, Mixing mixing,
                                           const SequenceExchange& exchange, const at::Tensor& bias_Hnn = {});

/// The positions that this rank holds, int64 on `device`.
[[nodiscard]] at::Tensor held_positions(const SequenceExchange& exchange, at::Device device);

}  // namespace sluice::kernels
