#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "trainer/kernels/beside.h"
#include "trainer/kernels/device_copies.h"
#include "trainer/kernels/shared_gate_internal.h"

namespace sluice::kernels {
namespace {

class GatheredGate final : public SharedGate {
 public:
  explicit GatheredGate(SharedOperands operands)
      : o_(std::move(operands)),
        all_(staged(SequenceExchange::Staging::kGathered)),
        beside_(o_.gate_Bth.device()) {}

  void make_and_send(const GateWriter& write) {
    const std::int64_t batch = o_.gate_Bth.size(0);
    const std::int64_t first = gathered_first(batch);
    for (std::int64_t begin = 0; begin < batch; begin = pieces_.back().end()) {
      Piece& made = add_piece(begin, begin < 2 * first ? std::min(begin + first, batch) : batch);
      make(made, write);
      made.passing = o_.exchange.start_all_gather(made.parts);
    }
  }
  void send() {
    Piece& whole = add_piece(0, o_.gate_Bth.size(0));
    beside_.add([&] {
      copy_sparing_cores(own_part(whole), o_.gate_Bth);
      whole.passing = o_.exchange.start_all_gather(whole.parts);
    });
  }

  [[nodiscard]] SpatialGate mix(const at::Tensor& bypass_Bth, const at::Tensor& bias_n, Keep keep) override {
    SpatialGate out;
    out.gated_BTh = at::empty_like(o_.gate_Bth);
    if (keep == Keep::kMixed) out.mixed_BTh = at::empty_like(o_.gate_Bth);
    out.diagonal = spatial_diagonal(o_.weight_tn, o_.part());
    const auto multiply = [&](const Piece& piece) {
      piece.passing->wait();
      device_spatial_gate({.gate = piece.sequences(),
                           .weight_tn = o_.weight_tn,
                           .diagonal = out.diagonal,
                           .bias_n = bias_n,
                           .bypass_Bth = piece.of(bypass_Bth),
                           .mixed_Bth = piece.of(out.mixed_BTh),
                           .gated_Bth = piece.of(out.gated_BTh)},
                          part(piece.count, everybody()));
    };
    // Later pieces on a stream beside: their tiles take the cores that the last ones of the first leave idle.
    for (std::size_t later = 1; later < pieces_.size(); ++later)
      beside_.add([&] { multiply(pieces_[later]); });
    multiply(pieces_.front());
    beside_.join();
    return out;
  }

  [[nodiscard]] at::Tensor back(const GradientSum& sum, const at::Tensor& dmixed_Bth,
                                const at::Tensor& diagonal,
                                const std::function<void()>& weight_done) override {
    const bool swaps = rows().ranks() == 2 && o_.exchange.spares_cores();
    return swaps ? back_to_two(sum, dmixed_Bth, diagonal, weight_done)
                 : back_to_all(sum, dmixed_Bth, diagonal, weight_done);
  }

 private:
  /// Some sequences [first, first + count) of all ranks' positions.
  struct Piece {
    std::int64_t first;
    std::int64_t count;
    at::Tensor parts;  ///< [ranks, count, most, h]
    std::unique_ptr<SequenceExchange::Passing> passing;

    [[nodiscard]] std::int64_t end() const { return first + count; }
    [[nodiscard]] at::Tensor sequences() const { return parts.flatten(0, 1); }
    [[nodiscard]] at::Tensor of(const at::Tensor& own_Bth) const {
      return own_Bth.defined() ? own_Bth.narrow(0, first, count) : own_Bth;
    }
  };

  /// All ranks' shares of dv, each to its rank.
  [[nodiscard]] at::Tensor back_to_all(const GradientSum& sum, const at::Tensor& dmixed_Bth,
                                       const at::Tensor& diagonal, const std::function<void()>& weight_done) {
    const Piece& whole = pieces_.front();
    const at::Tensor dparts = staged(SequenceExchange::Staging::kSummed).view(whole.parts.sizes());
    device_spatial_input_gradient(dparts.flatten(0, 1), dmixed_Bth, o_.weight_tn, diagonal, {},
                                  part(whole.count, everybody()));
    wait_for(whole);  // asked for first, so it is there first
    const auto scattering = o_.exchange.start_reduce_scatter(dparts);
    add_weight_gradient(sum, dmixed_Bth, weight_done);
    scattering->wait();
    return dparts.select(0, o_.exchange.rank()).narrow(1, 0, o_.gate_Bth.size(1)).contiguous();
  }

  /// Of two ranks each sends the other one its share, and adds what it gets to its own as that is computed.
  [[nodiscard]] at::Tensor back_to_two(const GradientSum& sum, const at::Tensor& dmixed_Bth,
                                       const at::Tensor& diagonal, const std::function<void()>& weight_done) {
    const Piece& whole = pieces_.front();
    const std::int64_t own = o_.exchange.rank();
    const at::Tensor shares = staged(SequenceExchange::Staging::kSummed).view(whole.parts.sizes());
    device_spatial_input_gradient(shares[own], dmixed_Bth, o_.weight_tn, diagonal, {},
                                  part(whole.count, of_rank(1 - own)));
    wait_for(whole);
    const auto swapping = o_.exchange.start_all_gather(shares);
    add_weight_gradient(sum, dmixed_Bth, weight_done);
    swapping->wait();
    at::Tensor dgate = at::empty_like(o_.gate_Bth);
    device_spatial_input_gradient(dgate, dmixed_Bth, o_.weight_tn, diagonal, shares[1 - own],
                                  part(whole.count, of_rank(own)));
    return dgate;
  }

  void add_weight_gradient(const GradientSum& sum, const at::Tensor& dmixed_Bth,
                           const std::function<void()>& weight_done) const {
    const Piece& whole = pieces_.front();
    add_device_spatial_weight_gradient(sum, dmixed_Bth, whole.sequences(), part(whole.count, everybody()));
    weight_done();
  }

  [[nodiscard]] const SequenceRows& rows() const { return o_.exchange.rows(); }

  /// ranks x B x most x h elements; zeros where a rank has fewer than `most`, since products read on.
  [[nodiscard]] at::Tensor staged(SequenceExchange::Staging use) const {
    const SequenceRows& all = rows();
    const at::Tensor elements =
        o_.exchange.staging(use, {all.ranks() * o_.gate_Bth.size(0) * all.most() * o_.gate_Bth.size(2)},
                            o_.gate_Bth.options().requires_grad(false));
    if (all.ranks() * all.most() != all.positions()) elements.zero_();
    return elements;
  }

  /// Sequences [first, end), not made and not sent yet.
  Piece& add_piece(std::int64_t first, std::int64_t end) {
    const std::int64_t width = o_.gate_Bth.size(2);
    const std::int64_t sequence = rows().ranks() * rows().most() * width;
    return pieces_.emplace_back(Piece{.first = first,
                                      .count = end - first,
                                      .parts = all_.narrow(0, first * sequence, (end - first) * sequence)
                                                   .view({rows().ranks(), end - first, rows().most(), width}),
                                      .passing = {}});
  }
  /// What this rank sends: [count, t, h].
  [[nodiscard]] at::Tensor own_part(const Piece& piece) const {
    return piece.parts.select(0, o_.exchange.rank()).narrow(1, 0, o_.gate_Bth.size(1));
  }
  void make(const Piece& piece, const GateWriter& write) const {
    const at::Tensor own = own_part(piece);
    if (own.is_contiguous()) return write(piece.first, piece.count, own.flatten(0, 1));
    for (std::int64_t i = 0; i < piece.count; ++i) write(piece.first + i, 1, own[i]);
  }
  void wait_for(const Piece& sent_beside) {
    beside_.join();
    sent_beside.passing->wait();
  }

  /// Columns of all ranks, as they stand in a piece of `count` sequences.
  struct Columns {
    std::int64_t first_rank;
    std::int64_t ranks;
  };
  [[nodiscard]] Columns everybody() const { return {0, rows().ranks()}; }
  [[nodiscard]] static Columns of_rank(std::int64_t rank) { return {rank, 1}; }

  /// Own rows and those columns, of `count` sequences.
  [[nodiscard]] SpatialPart part(std::int64_t count, Columns columns) const {
    SpatialPart part = o_.part();
    part.batch = count;
    for (std::int64_t i = 0; i < columns.ranks; ++i)
      for (const Strip& strip : rows().strips(columns.first_rank + i))
        part.seen.push_back({strip, i * count});
    return part;
  }

  SharedOperands o_;
  at::Tensor all_;
  Beside beside_;
  std::vector<Piece> pieces_;
};

}  // namespace

// Two small pieces and the rest: what is left of the expansion hides the first one's message, the product of
// each the next one's. More would not pay: each is a message of its own, and a launch of the product.
std::int64_t gathered_first(std::int64_t batch) { return std::max<std::int64_t>(1, batch / 4); }

std::unique_ptr<SharedGate> gather_gate(const SharedOperands& operands, const GateWriter& write) {
  auto gate = std::make_unique<GatheredGate>(operands);
  gate->make_and_send(write);
  return gate;
}

std::unique_ptr<SharedGate> gather_gate_again(const SharedOperands& operands) {
  auto gate = std::make_unique<GatheredGate>(operands);
  gate->send();
  return gate;
}

}  // namespace sluice::kernels
