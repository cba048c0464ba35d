#include "trainer/kernels/sharded_mixing.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <vector>

#include "trainer/kernels/ring_mixing.h"
#include "trainer/kernels/sharded_rows.h"
#include "trainer/kernels/strip_products.h"
#include "trainer/kernels/toeplitz.h"

namespace sluice::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

std::vector<Strip> whole_strip(const SequenceRows& rows) { return {{{0, rows.positions()}, 0}}; }

/// All rows of W, cut where ranks' chunks end, so that a causal product skips what lies above.
std::vector<Strip> all_strips(const SequenceRows& rows) {
  std::vector<Strip> strips;
  for (std::int64_t rank = 0; rank < rows.ranks(); ++rank)
    for (const PositionRange& range : {rows.head(rank), rows.tail(rank)})
      strips.push_back({range, range.begin});
  return strips;
}

/// What backward needs beside what autograd keeps.
struct Plan : torch::CustomClassHolder {
  Plan(Mixing mixing_, const SequenceExchange& exchange_) : mixing(mixing_), exchange(exchange_) {}
  Mixing mixing;
  const SequenceExchange& exchange;
};

/// One head: [B, t, c], W [n, n] or the rank's rows of it -> W v.
class ShardedMixFunction : public torch::autograd::Function<ShardedMixFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate_Btc, const at::Tensor& weight,
                            const c10::intrusive_ptr<Plan>& plan) {
    context->save_for_backward({gate_Btc, weight});
    context->saved_data["plan"] = c10::IValue::make_capsule(plan);
    return mixed_positions(gate_Btc.contiguous(), weight, plan->mixing, plan->exchange);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto plan = c10::static_intrusive_pointer_cast<Plan>(context->saved_data["plan"].toCapsule());
    const MixingGradients out = mixing_gradients(gradients[0].contiguous(), saved[0].contiguous(), saved[1],
                                                 plan->mixing, plan->exchange);
    return {out.gate_Btc, out.weight, at::Tensor()};
  }
};

/// W as the exchange multiplies it: all of it, or the rank's rows [..., t, n].
at::Tensor multiplied_weight(const SpatialMix& mix, const SequenceExchange& exchange) {
  if (mix.kind == SpatialKind::kFree) return mix.weight;
  const at::Tensor weight = toeplitz(mix.weight, exchange.rows().positions());
  if (exchange.mode() == ExchangeMode::kAllToAll) return weight;
  return held_part(weight, -2, exchange.rows().strips(exchange.rank()));
}

}  // namespace

at::Tensor mixed_positions(const at::Tensor& gate_Btc, const at::Tensor& weight, Mixing mixing,
                           const SequenceExchange& exchange) {
  const SequenceRows& rows = exchange.rows();
  switch (exchange.mode()) {
    case ExchangeMode::kAllToAll: {
      const StripProduct product{all_strips(rows), whole_strip(rows), mixing};
      const at::Tensor whole = to_channels(gate_Btc, exchange);
      const at::Tensor out = at::zeros_like(whole);
      product.add_mixed(out, weight, whole);
      return to_positions(out, gate_Btc.size(2), exchange);
    }
    case ExchangeMode::kRowShard: {
      const StripProduct product{rows.strips(exchange.rank()), whole_strip(rows), mixing};
      at::Tensor out = at::zeros_like(gate_Btc);
      product.add_mixed(out, weight, gathered_rows(gate_Btc, exchange));
      return out;
    }
    case ExchangeMode::kRing:
      return ring_mixed(gate_Btc, weight, mixing, exchange);
  }
  TORCH_CHECK(false, "an exchange of value ", static_cast<int>(exchange.mode()));
}

MixingGradients mixing_gradients(const at::Tensor& dmixed_Btc, const at::Tensor& gate_Btc,
                                 const at::Tensor& weight, Mixing mixing, const SequenceExchange& exchange) {
  const SequenceRows& rows = exchange.rows();
  const at::Tensor dweight = at::zeros_like(weight);
  switch (exchange.mode()) {
    case ExchangeMode::kAllToAll: {
      const StripProduct product{all_strips(rows), whole_strip(rows), mixing};
      const at::Tensor dwhole = to_channels(dmixed_Btc, exchange);
      product.add_weight_gradient(dweight, dwhole, to_channels(gate_Btc, exchange));
      const at::Tensor dgate = at::zeros_like(dwhole);
      product.add_input_gradient(dgate, weight, dwhole);
      return {to_positions(dgate, gate_Btc.size(2), exchange), dweight};
    }
    case ExchangeMode::kRowShard: {
      const StripProduct product{rows.strips(exchange.rank()), whole_strip(rows), mixing};
      const at::Tensor whole = gathered_rows(gate_Btc, exchange);
      product.add_weight_gradient(dweight, dmixed_Btc, whole);
      const at::Tensor dgate = at::zeros_like(whole);
      product.add_input_gradient(dgate, weight, dmixed_Btc);
      return {summed_rows(dgate, exchange), dweight};
    }
    case ExchangeMode::kRing:
      ring_weight_gradient(dweight, dmixed_Btc, gate_Btc, mixing, exchange);
      return {ring_input_gradient(dmixed_Btc, weight, mixing, exchange), dweight};
  }
  TORCH_CHECK(false, "an exchange of value ", static_cast<int>(exchange.mode()));
}

at::Tensor held_part(const at::Tensor& whole, std::int64_t dim, const std::vector<Strip>& strips) {
  std::vector<at::Tensor> parts;
  for (const Strip& strip : strips)
    parts.push_back(whole.narrow(dim, strip.range.begin, strip.range.count()));
  return at::cat(parts, dim);
}

at::Tensor mix_sharded_positions(const at::Tensor& gate_Btc, const SpatialMix& mix,
                                 const SequenceExchange& exchange) {
  const SequenceRows& rows = exchange.rows();
  TORCH_CHECK(gate_Btc.size(1) == rows.count(exchange.rank()), "rank ", exchange.rank(), " holds ",
              rows.count(exchange.rank()), " positions, but the gate has ", gate_Btc.size(1));
  TORCH_CHECK(mix.heads == 1 || exchange.mode() != ExchangeMode::kAllToAll,
              "all-to-all deals out channels, not those of ", mix.heads, " heads");
  TORCH_CHECK(mix.heads >= 1 && gate_Btc.size(2) % mix.heads == 0, mix.heads, " heads do not divide ",
              gate_Btc.size(2), " channels");
  const at::Tensor weight = multiplied_weight(mix, exchange);
  const at::Tensor bias = held_part(mix.bias, -1, rows.strips(exchange.rank()));
  const auto plan = c10::make_intrusive<Plan>(mix.mixing, exchange);
  if (mix.heads == 1) return ShardedMixFunction::apply(gate_Btc, weight, plan).add(bias.unsqueeze(1));
  const auto groups = gate_Btc.split(gate_Btc.size(2) / mix.heads, 2);
  std::vector<at::Tensor> parts;
  for (std::int64_t head = 0; head < mix.heads; ++head)
    parts.push_back(
        ShardedMixFunction::apply(groups[static_cast<std::size_t>(head)], weight.select(0, head), plan)
            .add(bias.select(0, head).unsqueeze(1)));
  return at::cat(parts, 2);
}

}  // namespace sluice::kernels
