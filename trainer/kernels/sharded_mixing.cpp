#include "trainer/kernels/sharded_mixing.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "trainer/kernels/autograd.h"
#include "trainer/kernels/ring_mixing.h"
#include "trainer/kernels/sharded_rows.h"
#include "trainer/kernels/spatial.h"
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
  Plan(at::Tensor weight_, Mixing mixing_, std::int64_t heads_, const SequenceExchange& exchange_)
      : weight(std::move(weight_)),
        adds(has_gradient_sum(weight)),
        mixing(mixing_),
        heads(heads_),
        exchange(exchange_) {}
  at::Tensor weight;  ///< of all heads
  bool adds;          ///< its gradient where it is summed, without one of its own in between
  Mixing mixing;
  std::int64_t heads;
  const SequenceExchange& exchange;

  /// The channels and the matrix of one head.
  [[nodiscard]] at::Tensor channels_of(const at::Tensor& values_Btc, std::int64_t head) const {
    const std::int64_t width = values_Btc.size(2) / heads;
    return values_Btc.narrow(2, head * width, width).contiguous();
  }
  [[nodiscard]] at::Tensor matrix_of(const at::Tensor& matrices, std::int64_t head) const {
    return heads == 1 ? matrices : matrices.select(0, head);
  }
};

/// The gate [B, t, c] -> W v, and W once more where autograd is to know of it.
class ShardedMixFunction : public torch::autograd::Function<ShardedMixFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate_Btc,
                            const std::optional<at::Tensor>& /*weight*/,
                            const c10::intrusive_ptr<Plan>& plan) {
    context->save_for_backward({gate_Btc});
    context->saved_data["plan"] = c10::IValue::make_capsule(plan);
    std::vector<at::Tensor> parts;
    for (std::int64_t head = 0; head < plan->heads; ++head)
      parts.push_back(mixed_positions(plan->channels_of(gate_Btc, head), plan->matrix_of(plan->weight, head),
                                      plan->mixing, plan->exchange));
    return plan->heads == 1 ? parts.front() : at::cat(parts, 2);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor gate_Btc = context->get_saved_variables().front();
    const auto plan = c10::static_intrusive_pointer_cast<Plan>(context->saved_data["plan"].toCapsule());
    const at::Tensor sum = plan->adds ? gradient_sum(plan->weight) : at::zeros_like(plan->weight);
    std::vector<at::Tensor> parts;
    for (std::int64_t head = 0; head < plan->heads; ++head)
      parts.push_back(mixing_gradient(plan->channels_of(gradients[0], head),
                                      plan->channels_of(gate_Btc, head), plan->matrix_of(plan->weight, head),
                                      plan->matrix_of(sum, head), plan->mixing, plan->exchange));
    if (plan->adds) gradient_added(plan->weight);
    return {plan->heads == 1 ? parts.front() : at::cat(parts, 2), plan->adds ? at::Tensor() : sum,
            at::Tensor()};
  }
};

/// W as the exchange multiplies it: all of it, or the rank's rows [..., t, n]. A Toeplitz matrix of which all
/// rows are multiplied is not made (spatial.h).
at::Tensor multiplied_weight(const SpatialMix& mix, const SequenceExchange& exchange) {
  if (mix.kind == SpatialKind::kFree) return mix.weight;
  if (exchange.mode() == ExchangeMode::kAllToAll) return mix.weight;
  const at::Tensor weight = toeplitz(mix.weight, exchange.rows().positions());
  return held_part(weight, -2, exchange.rows().strips(exchange.rank()));
}

}  // namespace

at::Tensor mixed_positions(const at::Tensor& gate_Btc, const at::Tensor& weight, Mixing mixing,
                           const SequenceExchange& exchange) {
  const SequenceRows& rows = exchange.rows();
  switch (exchange.mode()) {
    case ExchangeMode::kAllToAll: {
      const at::Tensor whole = to_channels(gate_Btc, exchange);
      if (is_toeplitz(weight))
        return to_positions(spatial_product(whole, weight, mixing), gate_Btc.size(2), exchange);
      const StripProduct product{all_strips(rows), whole_strip(rows), mixing};
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

at::Tensor mixing_gradient(const at::Tensor& dmixed_Btc, const at::Tensor& gate_Btc, const at::Tensor& weight,
                           const at::Tensor& sum, Mixing mixing, const SequenceExchange& exchange) {
  const SequenceRows& rows = exchange.rows();
  switch (exchange.mode()) {
    case ExchangeMode::kAllToAll: {
      const at::Tensor dwhole = to_channels(dmixed_Btc, exchange);
      if (is_toeplitz(weight)) {
        add_spatial_weight_gradient({sum}, dwhole, to_channels(gate_Btc, exchange), mixing);
        return to_positions(spatial_input_gradient(dwhole, weight, {}, mixing), gate_Btc.size(2), exchange);
      }
      const StripProduct product{all_strips(rows), whole_strip(rows), mixing};
      product.add_weight_gradient(sum, dwhole, to_channels(gate_Btc, exchange));
      const at::Tensor dgate = at::zeros_like(dwhole);
      product.add_input_gradient(dgate, weight, dwhole);
      return to_positions(dgate, gate_Btc.size(2), exchange);
    }
    case ExchangeMode::kRowShard: {
      const StripProduct product{rows.strips(exchange.rank()), whole_strip(rows), mixing};
      const at::Tensor whole = gathered_rows(gate_Btc, exchange);
      product.add_weight_gradient(sum, dmixed_Btc, whole);
      const at::Tensor dgate = at::zeros_like(whole);
      product.add_input_gradient(dgate, weight, dmixed_Btc);
      return summed_rows(dgate, exchange);
    }
    case ExchangeMode::kRing:
      ring_weight_gradient(sum, dmixed_Btc, gate_Btc, mixing, exchange);
      return ring_input_gradient(dmixed_Btc, weight, mixing, exchange);
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
  const auto plan = c10::make_intrusive<Plan>(weight, mix.mixing, mix.heads, exchange);
  const at::Tensor mixed_Btc =
      ShardedMixFunction::apply(gate_Btc, plan->adds ? std::nullopt : std::optional(weight), plan);
  if (mix.heads == 1) return mixed_Btc.add(bias.unsqueeze(1));
  return mixed_Btc.unflatten(2, {mix.heads, -1}).add(bias.t().unsqueeze(2)).flatten(2);
}

}  // namespace sluice::kernels
