#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/kernels/mixing.h"
#include "trainer/kernels/sequence_exchange.h"

// The single small head that makes a gMLP an aMLP (arXiv 2105.08050, section 4.3 and figure 6), by
// attention.h. Shape suffixes: B batch, T positions, S positions seen, d d_model, a channels of the head, c
// channels of the gate.
namespace sluice::kernels {

struct TinyAttention {
  at::Tensor qkv_weight;  ///< [3 a, d]: queries, keys, values; undefined: the block has no attention
  at::Tensor qkv_bias;    ///< [3 a], or undefined
  at::Tensor out_weight;  ///< [c, a]
  at::Tensor out_bias;    ///< [c]

  [[nodiscard]] bool defined() const { return qkv_weight.defined(); }
};

/// [B T, d] -> [B T, 3 a].
[[nodiscard]] at::Tensor project_qkv(const at::Tensor& input_Td, const TinyAttention& attention);

struct TinyHead {
  at::Tensor q_B1Ta;
  at::Tensor k_B1Sa;
  at::Tensor v_B1Sa;
};
[[nodiscard]] TinyHead tiny_head(const at::Tensor& qkv_T3a, std::int64_t batch);

/// out(softmax(q k' / sqrt(a)) v): [B T, c]. kCausal: T = S. `exchange`: the head has the positions that this
/// rank holds (sharded_attention.h).
[[nodiscard]] at::Tensor attend(const TinyHead& head, Mixing mixing, const TinyAttention& attention,
                                const SequenceExchange* exchange = nullptr);

}  // namespace sluice::kernels
