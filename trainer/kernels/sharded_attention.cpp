#include "trainer/kernels/sharded_attention.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <vector>

#include "trainer/kernels/attention.h"
#include "trainer/kernels/sharded_rows.h"

namespace sluice::kernels {
namespace {

/// [B, H, t, k] of this rank -> [B, H, n, k] of all.
at::Tensor gather_heads(const at::Tensor& x_BHtk, const SequenceExchange& exchange) {
  const at::Tensor rows = x_BHtk.transpose(1, 2).flatten(2);
  return gather_positions(rows, exchange).unflatten(2, {x_BHtk.size(1), x_BHtk.size(3)}).transpose(1, 2);
}

/// What is added to the scores: the bias of the rank's rows, -inf for later positions of a causal mixing.
at::Tensor score_bias(const at::Tensor& like, Mixing mixing, const SequenceExchange& exchange,
                      const at::Tensor& bias_Hnn) {
  const at::Tensor held = held_positions(exchange, like.device());
  const std::int64_t positions = exchange.rows().positions();
  at::Tensor bias = bias_Hnn.defined() ? bias_Hnn.index_select(1, held)
                                       : at::zeros({1, held.size(0), positions}, like.options());
  if (mixing == Mixing::kFull) return bias;
  return bias.masked_fill(at::arange(positions, held.options()).gt(held.unsqueeze(1)), -INFINITY);
}

}  // namespace

at::Tensor sharded_attention(const at::Tensor& q_BHtk, const at::Tensor& k_BHtk, const at::Tensor& v_BHtk,
                             Mixing mixing, const SequenceExchange& exchange, const at::Tensor& bias_Hnn) {
  const at::Tensor like = v_BHtk.detach();
  const at::Tensor bias_Htn = score_bias(like, mixing, exchange, bias_Hnn);
  const at::Tensor v_BHnk = gather_heads(v_BHtk, exchange);
  if (!q_BHtk.defined()) return attention_by_position(bias_Htn, v_BHnk, Mixing::kFull);
  return attention(q_BHtk, gather_heads(k_BHtk, exchange), v_BHnk, Mixing::kFull, {}, bias_Htn);
}

at::Tensor held_positions(const SequenceExchange& exchange, at::Device device) {
  // Made on the device: a captured step copies nothing from the host.
  std::vector<at::Tensor> strips;
  for (const Strip& strip : exchange.rows().strips(exchange.rank()))
    strips.push_back(
        at::arange(strip.range.begin, strip.range.end, at::TensorOptions(at::kLong).device(device)));
  return at::cat(strips);
}

}  // namespace sluice::kernels
