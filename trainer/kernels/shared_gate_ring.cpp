#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <utility>

#include "trainer/kernels/ring.h"
#include "trainer/kernels/shared_gate_internal.h"

namespace sluice::kernels {
namespace {

using Passing = SequenceExchange::Passing;

at::Tensor rows_like(const at::Tensor& like_Bth, std::int64_t rows) {
  return at::empty({like_Bth.size(0), rows, like_Bth.size(2)}, like_Bth.options().requires_grad(false));
}

/// The gate's blocks as they come by: the rank's own first, then those of the ranks after it.
class Blocks {
 public:
  Blocks(at::Tensor own, const Ring& ring) : ring_(ring), block_(std::move(own)) { pass_on(); }

  [[nodiscard]] const at::Tensor& block() const { return block_; }
  /// The next block is there, and the one after it on its way.
  void advance() {
    passing_->wait();
    block_ = std::move(next_);
    ++step_;
    pass_on();
  }

 private:
  void pass_on() {
    if (step_ + 1 == ring_.ranks()) return;
    sent_ = block_.narrow(1, 0, ring_.needed_rows(ring_.owner(step_), ring_.before())).contiguous();
    next_ = rows_like(block_, ring_.needed_rows(ring_.owner(step_ + 1), ring_.rank()));
    passing_ = ring_.exchange.pass(sent_, ring_.before(), next_, ring_.after());
  }

  const Ring& ring_;
  std::int64_t step_ = 0;
  at::Tensor block_;
  at::Tensor sent_;
  at::Tensor next_;
  std::unique_ptr<Passing> passing_;
};

class PassedGate final : public SharedGate {
 public:
  explicit PassedGate(SharedOperands operands)
      : o_(std::move(operands)), ring_{o_.exchange, o_.mixing}, blocks_(o_.gate_Bth, ring_) {}

  [[nodiscard]] SpatialGate mix(const at::Tensor& bypass_Bth, const at::Tensor& bias_n,
                                Keep /*keep*/) override {
    SpatialGate out;
    out.gated_BTh = at::empty_like(o_.gate_Bth);
    out.mixed_BTh = at::empty_like(o_.gate_Bth);  // sums so far, if nothing else
    out.diagonal = spatial_diagonal(o_.weight_tn, o_.part());
    for (std::int64_t step = 0; step < ring_.ranks(); ++step) {
      if (step > 0) blocks_.advance();
      device_spatial_gate({.gate = blocks_.block(),
                           .weight_tn = o_.weight_tn,
                           .diagonal = out.diagonal,
                           .bias_n = bias_n,
                           .bypass_Bth = bypass_Bth,
                           .mixed_Bth = out.mixed_BTh,
                           .gated_Bth = out.gated_BTh},
                          forward_part(step));
    }
    return out;
  }

  /// Sums that others wait for first, then what can be computed meanwhile.
  [[nodiscard]] at::Tensor back(const GradientSum& sum, const at::Tensor& dmixed_Bth,
                                const at::Tensor& diagonal,
                                const std::function<void()>& weight_done) override {
    at::Tensor sent;
    at::Tensor received;
    std::unique_ptr<Passing> passing;
    const std::int64_t last = ring_.ranks() - 1;
    for (std::int64_t step = last; step >= 0; --step) {
      if (step == 0) {  // the last block's share of the weight's gradient goes before the wait
        add_weight_gradient(last, sum, dmixed_Bth);
        weight_done();
      }
      if (passing) passing->wait();
      at::Tensor dgate = rows_like(dmixed_Bth, ring_.needed_rows(ring_.owner(step), ring_.rank()));
      device_spatial_input_gradient(dgate, dmixed_Bth, o_.weight_tn, diagonal, received, seen_part(step));
      if (step == 0) return dgate;
      sent = std::move(dgate);
      received = rows_like(dmixed_Bth, ring_.needed_rows(ring_.owner(step - 1), ring_.before()));
      passing = o_.exchange.pass(sent, ring_.after(), received, ring_.before());
      add_weight_gradient(last - step, sum, dmixed_Bth);
    }
    return sent;
  }

 private:
  /// All own rows, and the columns of the block of step `step`.
  [[nodiscard]] SpatialPart seen_part(std::int64_t step) const {
    SpatialPart part = o_.part();
    for (const Strip& strip : ring_.needed(ring_.owner(step), ring_.rank())) part.seen.push_back({strip, 0});
    return part;
  }

  /// Whether own rows `strip` multiply anything of the block of step `step`.
  [[nodiscard]] bool multiplies(const Strip& strip, std::int64_t step) const {
    for (const Strip& seen : ring_.needed(ring_.owner(step), ring_.rank())) {
      const bool before = o_.mixing == Mixing::kFull || seen.range.begin < strip.range.end;
      if (seen.range.count() > 0 && before) return true;
    }
    return false;
  }

  /// The own rows that multiply something in this step, and which part of their sums that is.
  [[nodiscard]] SpatialPart forward_part(std::int64_t step) const {
    SpatialPart part = seen_part(step);
    part.own.clear();
    for (const Strip& strip : o_.own()) {
      if (!multiplies(strip, step)) continue;
      bool earlier = false;
      bool later = false;
      for (std::int64_t other = 0; other < ring_.ranks(); ++other) {
        if (other == step || !multiplies(strip, other)) continue;
        (other < step ? earlier : later) = true;
      }
      part.own.push_back(strip);
      part.sums.push_back(earlier ? (later ? SpatialSum::kFurther : SpatialSum::kLast)
                                  : (later ? SpatialSum::kFirst : SpatialSum::kWhole));
    }
    return part;
  }

  void add_weight_gradient(std::int64_t step, const GradientSum& sum, const at::Tensor& dmixed_Bth) {
    if (step > 0) blocks_.advance();
    add_device_spatial_weight_gradient(sum, dmixed_Bth, blocks_.block(), seen_part(step));
  }

  SharedOperands o_;
  Ring ring_;
  Blocks blocks_;
};

}  // namespace

std::unique_ptr<SharedGate> pass_gate(const SharedOperands& operands) {
  return std::make_unique<PassedGate>(operands);
}

}  // namespace sluice::kernels
