#include "trainer/kernels/shared_gate.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <utility>

#include "trainer/kernels/fused_passes.h"
#include "trainer/kernels/sharded_mixing.h"
#include "trainer/kernels/sharded_rows.h"
#include "trainer/kernels/shared_gate_internal.h"

namespace sluice::kernels {
namespace {

/// The gate's pass over W v of own rows, to which b is added in place.
SpatialGate gated(const at::Tensor& product_Bth, const at::Tensor& bypass_Bth, const at::Tensor& bias_n,
                  const SequenceExchange& exchange) {
  const at::Tensor bias_t = held_part(bias_n, 0, exchange.rows().strips(exchange.rank()));
  const at::Tensor mixed = product_Bth.add_(bias_t.unsqueeze(1));
  const auto rows = [](const at::Tensor& values) { return values.flatten(0, 1); };
  return {gate_forward(rows(bypass_Bth), rows(mixed), {}, mixed.size(1)).view(mixed.sizes()), mixed, {}};
}

/// By ATen's products, after the exchange.
class PlainGate final : public SharedGate {
 public:
  explicit PlainGate(SharedOperands operands) : o_(std::move(operands)) {}

  [[nodiscard]] SpatialGate mix(const at::Tensor& bypass_Bth, const at::Tensor& bias_n,
                                Keep /*keep*/) override {
    return gated(mixed_positions(o_.gate_Bth, o_.weight_tn, o_.mixing, o_.exchange), bypass_Bth, bias_n,
                 o_.exchange);
  }
  [[nodiscard]] at::Tensor back(const GradientSum& sum, const at::Tensor& dmixed_Bth,
                                const at::Tensor& /*diagonal*/,
                                const std::function<void()>& weight_done) override {
    const at::Tensor dgate =
        mixing_gradient(dmixed_Bth, o_.gate_Bth, o_.weight_tn, begun_sum(sum), o_.mixing, o_.exchange);
    weight_done();
    return dgate;
  }

 private:
  SharedOperands o_;
};

/// All positions of own channels, by own kernels.
class DealtGate final : public SharedGate {
 public:
  explicit DealtGate(SharedOperands operands)
      : o_(std::move(operands)),
        channels_(o_.gate_Bth.size(2)),
        whole_(to_channels(o_.gate_Bth, o_.exchange)) {}

  [[nodiscard]] SpatialGate mix(const at::Tensor& bypass_Bth, const at::Tensor& bias_n,
                                Keep /*keep*/) override {
    SpatialPart part = whole_part(whole_, o_.mixing);
    part.sums = {SpatialSum::kFirst};
    const at::Tensor product = at::empty_like(whole_);
    const at::Tensor diagonal = spatial_diagonal(o_.weight_tn, part);
    device_spatial_gate({.gate = whole_,
                         .weight_tn = o_.weight_tn,
                         .diagonal = diagonal,
                         .bias_n = {},
                         .bypass_Bth = {},
                         .mixed_Bth = product,
                         .gated_Bth = {}},
                        part);
    SpatialGate out = gated(to_positions(product, channels_, o_.exchange), bypass_Bth, bias_n, o_.exchange);
    out.diagonal = diagonal;
    return out;
  }
  [[nodiscard]] at::Tensor back(const GradientSum& sum, const at::Tensor& dmixed_Bth,
                                const at::Tensor& diagonal,
                                const std::function<void()>& weight_done) override {
    const SpatialPart part = whole_part(whole_, o_.mixing);
    const at::Tensor dmixed = to_channels(dmixed_Bth, o_.exchange);
    add_device_spatial_weight_gradient(sum, dmixed, whole_, part);
    weight_done();
    at::Tensor dgate = at::empty_like(whole_);
    device_spatial_input_gradient(dgate, dmixed, o_.weight_tn, diagonal, {}, part);
    return to_positions(dgate, channels_, o_.exchange);
  }

 private:
  SharedOperands o_;
  std::int64_t channels_;
  at::Tensor whole_;
};

/// Whether own kernels multiply what these ranks share.
bool has_kernels(const SharedOperands& o) {
  const SequenceRows& rows = o.exchange.rows();
  if (!has_spatial_kernel(o.gate_Bth, o.weight_tn)) return false;
  if (o.exchange.mode() == ExchangeMode::kAllToAll) return o.gate_Bth.size(2) % (8 * rows.ranks()) == 0;
  constexpr std::int64_t kMostRanks = 8;
  for (std::int64_t rank = 0; rank < rows.ranks(); ++rank)
    if (!has_spatial_kernel(rows.strips(rank))) return false;
  return rows.ranks() <= kMostRanks;
}

}  // namespace

std::unique_ptr<SharedGate> share_gate(const at::Tensor& gate_Bth, const at::Tensor& weight, Mixing mixing,
                                       const SequenceExchange& exchange, const GateWriter& write) {
  const SharedOperands operands{gate_Bth, weight, mixing, exchange};
  if (exchange.mode() == ExchangeMode::kRowShard && has_kernels(operands))
    return gather_gate(operands, write);
  write(0, gate_Bth.size(0), {});
  return share_gate_again(gate_Bth, weight, mixing, exchange);
}

std::unique_ptr<SharedGate> share_gate_again(const at::Tensor& gate_Bth, const at::Tensor& weight,
                                             Mixing mixing, const SequenceExchange& exchange) {
  const SharedOperands operands{gate_Bth, weight, mixing, exchange};
  if (!has_kernels(operands)) return std::make_unique<PlainGate>(operands);
  switch (exchange.mode()) {
    case ExchangeMode::kAllToAll:
      return std::make_unique<DealtGate>(operands);
    case ExchangeMode::kRowShard:
      return gather_gate_again(operands);
    case ExchangeMode::kRing:
      return pass_gate(operands);
  }
  TORCH_CHECK(false, "an exchange of value ", static_cast<int>(exchange.mode()));
}

}  // namespace sluice::kernels
