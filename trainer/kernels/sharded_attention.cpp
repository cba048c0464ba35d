#include "trainer/kernels/sharded_attention.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <vector>

#include "trainer/kernels/attention.h"
#include "trainer/kernels/sharded_rows.h"

namespace sluice::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

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

/// An exchange as autograd keeps it.
struct Kept : torch::CustomClassHolder {
  explicit Kept(const SequenceExchange& exchange_) : exchange(exchange_) {}
  const SequenceExchange& exchange;
};
using KeptExchange = c10::intrusive_ptr<Kept>;

/// to_channels, differentiable: to_positions is its backward.
class ShareChannels : public torch::autograd::Function<ShareChannels> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& held_Btc, const KeptExchange& kept) {
    context->saved_data["kept"] = c10::IValue::make_capsule(kept);
    context->saved_data["channels"] = held_Btc.size(2);
    return to_channels(held_Btc, kept->exchange);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto kept = c10::static_intrusive_pointer_cast<Kept>(context->saved_data["kept"].toCapsule());
    return {to_positions(gradients[0], context->saved_data["channels"].toInt(), kept->exchange),
            at::Tensor()};
  }
};

/// And the other way round.
class SharePositions : public torch::autograd::Function<SharePositions> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& whole_Bnw, std::int64_t channels,
                            const KeptExchange& kept) {
    context->saved_data["kept"] = c10::IValue::make_capsule(kept);
    return to_positions(whole_Bnw, channels, kept->exchange);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto kept = c10::static_intrusive_pointer_cast<Kept>(context->saved_data["kept"].toCapsule());
    return {to_channels(gradients[0], kept->exchange), at::Tensor(), at::Tensor()};
  }
};

bool attends_by_heads(std::int64_t heads, const SequenceExchange& exchange) {
  return exchange.mode() == ExchangeMode::kAllToAll && heads % exchange.rows().ranks() == 0;
}

/// Own positions of all heads -> all positions of own heads, of several tensors in one exchange:
/// [B, H, t, k] each -> [B, H / ranks, n, k] each.
std::vector<at::Tensor> to_own_heads(const std::vector<at::Tensor>& parts_BHtk,
                                     const SequenceExchange& exchange) {
  const std::int64_t ranks = exchange.rows().ranks();
  const std::int64_t own = parts_BHtk.front().size(1) / ranks;
  std::vector<at::Tensor> by_rank;  // [B, t, ranks, own k] each: a rank's channels lie side by side
  for (const at::Tensor& part : parts_BHtk)
    by_rank.push_back(part.transpose(1, 2).unflatten(2, {ranks, own}).flatten(3));
  const at::Tensor whole =
      ShareChannels::apply(at::cat(by_rank, 3).flatten(2), c10::make_intrusive<Kept>(exchange));
  std::vector<at::Tensor> heads;
  for (const at::Tensor& part :
       whole.unflatten(2, {static_cast<std::int64_t>(parts_BHtk.size()), own, -1}).unbind(2))
    heads.push_back(part.transpose(1, 2));
  return heads;
}

at::Tensor attention_by_heads(const at::Tensor& q_BHtk, const at::Tensor& k_BHtk, const at::Tensor& v_BHtk,
                              Mixing mixing, const SequenceExchange& exchange, const at::Tensor& bias_Hnn) {
  const std::int64_t heads = v_BHtk.size(1);
  const std::int64_t own = heads / exchange.rows().ranks();
  const at::Tensor bias = bias_Hnn.defined() ? bias_Hnn.narrow(0, exchange.rank() * own, own) : bias_Hnn;
  at::Tensor attended;
  if (q_BHtk.defined()) {
    const auto parts = to_own_heads({q_BHtk, k_BHtk, v_BHtk}, exchange);
    attended = attention(parts[0], parts[1], parts[2], mixing, {}, bias);
  } else {
    attended = attention_by_position(bias, to_own_heads({v_BHtk}, exchange)[0], mixing);
  }
  return SharePositions::apply(attended.transpose(1, 2).flatten(2), heads * v_BHtk.size(3),
                               c10::make_intrusive<Kept>(exchange))
      .unflatten(2, {heads, v_BHtk.size(3)})
      .transpose(1, 2);
}

}  // namespace

at::Tensor sharded_attention(const at::Tensor& q_BHtk, const at::Tensor& k_BHtk, const at::Tensor& v_BHtk,
                             Mixing mixing, const SequenceExchange& exchange, const at::Tensor& bias_Hnn) {
  if (attends_by_heads(v_BHtk.size(1), exchange))
    return attention_by_heads(q_BHtk, k_BHtk, v_BHtk, mixing, exchange, bias_Hnn);
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
