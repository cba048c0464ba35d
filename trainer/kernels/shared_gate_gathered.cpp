#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <utility>

#include "trainer/kernels/sharded_rows.h"
#include "trainer/kernels/shared_gate_internal.h"

namespace sluice::kernels {
namespace {

class GatheredGate final : public SharedGate {
 public:
  explicit GatheredGate(SharedOperands operands)
      : o_(std::move(operands)), part_(o_.part()), parts_(parts_like(o_.gate_Bth)) {
    const std::int64_t batch = part_.batch;
    for (std::int64_t rank = 0; rank < rows().ranks(); ++rank)
      for (const Strip& strip : rows().strips(rank)) part_.seen.push_back({strip, rank * batch});
    parts_.select(0, o_.exchange.rank()).narrow(1, 0, o_.gate_Bth.size(1)).copy_(o_.gate_Bth);
    gathering_ = o_.exchange.start_all_gather(parts_);
  }

  [[nodiscard]] SpatialGate mix(const at::Tensor& bypass_Bth, const at::Tensor& bias_n, Keep keep) override {
    SpatialGate out;
    out.gated_BTh = at::empty_like(o_.gate_Bth);
    if (keep == Keep::kMixed) out.mixed_BTh = at::empty_like(o_.gate_Bth);
    out.diagonal = spatial_diagonal(o_.weight_tn, part_);
    gathering_->wait();
    device_spatial_gate({.gate = sequences(parts_),
                         .weight_tn = o_.weight_tn,
                         .diagonal = out.diagonal,
                         .bias_n = bias_n,
                         .bypass_Bth = bypass_Bth,
                         .mixed_Bth = out.mixed_BTh,
                         .gated_Bth = out.gated_BTh},
                        part_);
    return out;
  }

  [[nodiscard]] at::Tensor back(const GradientSum& sum, const at::Tensor& dmixed_Bth,
                                const at::Tensor& diagonal,
                                const std::function<void()>& weight_done) override {
    const at::Tensor dparts = parts_like(dmixed_Bth);
    device_spatial_input_gradient(sequences(dparts), dmixed_Bth, o_.weight_tn, diagonal, {}, part_);
    gathering_->wait();  // asked for first, so it is there first
    const auto scattering = o_.exchange.start_reduce_scatter(dparts);
    add_device_spatial_weight_gradient(sum, dmixed_Bth, sequences(parts_), part_);
    weight_done();
    scattering->wait();
    return dparts.select(0, o_.exchange.rank()).narrow(1, 0, o_.gate_Bth.size(1)).contiguous();
  }

 private:
  [[nodiscard]] const SequenceRows& rows() const { return o_.exchange.rows(); }
  /// [ranks, B, most, h]; zeros where a rank has fewer than `most`, since products read on.
  [[nodiscard]] at::Tensor parts_like(const at::Tensor& held_Bth) const {
    const SequenceRows& all = rows();
    const std::int64_t held_by_all = all.ranks() * all.most();
    if (held_by_all != all.positions()) return make_parts(held_Bth, held_Bth.size(2), all);
    return at::empty({all.ranks(), held_Bth.size(0), all.most(), held_Bth.size(2)},
                     held_Bth.options().requires_grad(false));
  }
  /// [ranks, B, most, h] as [ranks B, most, h].
  static at::Tensor sequences(const at::Tensor& parts) { return parts.flatten(0, 1); }

  SharedOperands o_;
  SpatialPart part_;
  at::Tensor parts_;
  std::unique_ptr<SequenceExchange::Passing> gathering_;
};

}  // namespace

std::unique_ptr<SharedGate> gather_gate(const SharedOperands& operands) {
  return std::make_unique<GatheredGate>(operands);
}

}  // namespace sluice::kernels
