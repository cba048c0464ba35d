#include "trainer/kernels/sharded_rows.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

namespace sluice::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// An exchange as autograd keeps it.
struct Kept : torch::CustomClassHolder {
  explicit Kept(const SequenceExchange& exchange_) : exchange(exchange_) {}
  const SequenceExchange& exchange;
};

class GatherFunction : public torch::autograd::Function<GatherFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& held_Btc,
                            const c10::intrusive_ptr<Kept>& kept) {
    context->saved_data["kept"] = c10::IValue::make_capsule(kept);
    return gathered_rows(held_Btc.contiguous(), kept->exchange);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto kept = c10::static_intrusive_pointer_cast<Kept>(context->saved_data["kept"].toCapsule());
    return {summed_rows(gradients[0], kept->exchange), at::Tensor()};
  }
};

/// Channels that each rank has all positions of, the last ranks' padded.
std::int64_t channels_of_rank(std::int64_t channels, const SequenceRows& rows) {
  return (channels + rows.ranks() - 1) / rows.ranks();
}

}  // namespace

void put_rows(const at::Tensor& whole_Bnc, const at::Tensor& held, const std::vector<Strip>& strips) {
  for (const Strip& strip : strips)
    whole_Bnc.narrow(1, strip.range.begin, strip.range.count())
        .copy_(held.narrow(1, strip.row, strip.range.count()));
}
void take_rows(const at::Tensor& held, const at::Tensor& whole_Bnc, const std::vector<Strip>& strips) {
  for (const Strip& strip : strips)
    held.narrow(1, strip.row, strip.range.count())
        .copy_(whole_Bnc.narrow(1, strip.range.begin, strip.range.count()));
}

at::Tensor make_parts(const at::Tensor& like_Btc, std::int64_t channels, const SequenceRows& rows) {
  return at::zeros({rows.ranks(), like_Btc.size(0), rows.most(), channels}, like_Btc.options());
}

at::Tensor gathered_rows(const at::Tensor& held_Btc, const SequenceExchange& exchange) {
  const SequenceRows& rows = exchange.rows();
  const at::Tensor parts = make_parts(held_Btc, held_Btc.size(2), rows);
  parts.select(0, exchange.rank()).narrow(1, 0, held_Btc.size(1)).copy_(held_Btc);
  exchange.all_gather(parts);
  at::Tensor whole = at::empty({held_Btc.size(0), rows.positions(), held_Btc.size(2)}, held_Btc.options());
  for (std::int64_t rank = 0; rank < rows.ranks(); ++rank)
    put_rows(whole, parts.select(0, rank), rows.strips(rank));
  return whole;
}

at::Tensor summed_rows(const at::Tensor& whole_Bnc, const SequenceExchange& exchange) {
  const SequenceRows& rows = exchange.rows();
  const at::Tensor parts = make_parts(whole_Bnc, whole_Bnc.size(2), rows);
  for (std::int64_t rank = 0; rank < rows.ranks(); ++rank)
    take_rows(parts.select(0, rank), whole_Bnc, rows.strips(rank));
  exchange.reduce_scatter(parts);
  return parts.select(0, exchange.rank()).narrow(1, 0, rows.count(exchange.rank())).contiguous();
}

at::Tensor to_channels(const at::Tensor& held_Btc, const SequenceExchange& exchange) {
  const SequenceRows& rows = exchange.rows();
  const std::int64_t width = channels_of_rank(held_Btc.size(2), rows);
  const at::Tensor parts = make_parts(held_Btc, width, rows);
  for (std::int64_t rank = 0; rank < rows.ranks(); ++rank) {
    const std::int64_t first = std::min(rank * width, held_Btc.size(2));
    const std::int64_t count = std::min(width, held_Btc.size(2) - first);
    parts.select(0, rank)
        .narrow(1, 0, held_Btc.size(1))
        .narrow(2, 0, count)
        .copy_(held_Btc.narrow(2, first, count));
  }
  const at::Tensor received = exchange.all_to_all(parts);
  at::Tensor whole = at::empty({held_Btc.size(0), rows.positions(), width}, held_Btc.options());
  for (std::int64_t rank = 0; rank < rows.ranks(); ++rank)
    put_rows(whole, received.select(0, rank), rows.strips(rank));
  return whole;
}

at::Tensor to_positions(const at::Tensor& whole_Bnw, std::int64_t channels,
                        const SequenceExchange& exchange) {
  const SequenceRows& rows = exchange.rows();
  const at::Tensor parts = make_parts(whole_Bnw, whole_Bnw.size(2), rows);
  for (std::int64_t rank = 0; rank < rows.ranks(); ++rank)
    take_rows(parts.select(0, rank), whole_Bnw, rows.strips(rank));
  const at::Tensor received = exchange.all_to_all(parts);
  return at::cat(received.unbind(0), 2)
      .narrow(1, 0, rows.count(exchange.rank()))
      .narrow(2, 0, channels)
      .contiguous();
}

at::Tensor gather_positions(const at::Tensor& held_Btc, const SequenceExchange& exchange) {
  return GatherFunction::apply(held_Btc, c10::make_intrusive<Kept>(exchange));
}

}  // namespace sluice::kernels
