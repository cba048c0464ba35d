#include "trainer/train/replica.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_zero.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <numeric>
#include <utility>

#include "parallel/pushed_reduction.h"
#include "trainer/kernels/autograd.h"
#include "trainer/kernels/device_update.h"
#include "trainer/train/initial_state.h"

namespace sluice::train {

namespace {

/// Flat, of all of the layout, for exchange where there is one.
at::Tensor flat_buffer(const parallel::ArenaLayout& layout, at::ScalarType dtype,
                       const Placement& placement) {
  if (placement.exchange == nullptr) return layout.allocate(dtype, placement.device);
  return placement.exchange->exchange_buffer(layout.size(), dtype, placement.device);
}

/// All of the layout, or its slices of `owner`.
at::Tensor allocate_parameters(const parallel::ArenaLayout& layout, const Placement& placement,
                               std::optional<std::int64_t> owner) {
  if (!owner && placement.compute != placement.master)
    return layout.allocate(placement.master, placement.device);
  if (!owner) return flat_buffer(layout, placement.master, placement);
  TORCH_CHECK(placement.compute != placement.master,
              "a replica holds slices alone of parameters that it rounds, not of ", placement.master);
  std::int64_t elements = 0;
  for (const parallel::Range& range : layout.owned(*owner)) elements += range.numel();
  return at::zeros({elements}, at::TensorOptions().dtype(placement.master).device(placement.device));
}

/// The positions whose rows a rank holds of each square of a parameter.
std::vector<std::int64_t> rows_of(const model::ParameterSpec& spec,
                                  const std::optional<model::HeldRows>& held) {
  if (held && spec.deal == model::Deal::kRows) return held->rows.held(held->rank);
  std::vector<std::int64_t> all(static_cast<std::size_t>(spec.shape.back()));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

}  // namespace

Replica::Replica(const model::ModelOptions& options, std::int64_t vocabulary_size, const Placement& placement,
                 ReplicaUse use, const parallel::BucketPlan& buckets, model::Recompute recompute,
                 std::optional<std::int64_t> owner, const kernels::SequenceExchange* sequence)
    : options_(options),
      vocabulary_size_(vocabulary_size),
      specs_(model::parameter_specs(options, vocabulary_size)),
      held_(model::held_rows(sequence)),
      state_layout_(specs_, buckets, held_),
      owner_(owner),
      parameters_(allocate_parameters(layout(), placement, owner)),
      sequence_(sequence) {
  const bool rounds = placement.compute != placement.master;
  if (rounds) rounded_ = flat_buffer(layout(), placement.compute, placement);
  if (use == ReplicaUse::kTraining) gradients_ = flat_buffer(layout(), placement.master, placement);
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(specs_.size()); ++i) {
    at::Tensor value = layout().view(rounds ? rounded_ : parameters_, i);
    if (gradients_.defined()) {
      const at::Tensor gradient = layout().view(gradients_, i);
      value = rounds ? kernels::make_rounded_leaf(value, gradient) : kernels::make_leaf(value, gradient);
    }
    leaves_.push_back(value);
  }
  if (gradients_.defined())
    part_gradients(placement.exchange != nullptr && parallel::PushedReduction::serves(*placement.exchange));
  model::Computing computing(recompute);
  computing.residual = placement.residual;
  computing.products = placement.products;
  model_ = model::make_model(options_, vocabulary_size_, leaves_, computing, sequence);
}

void Replica::draw(std::uint64_t seed, const at::Tensor& whole) const {
  const at::NoGradGuard no_grad;
  draw_initial_values(specs_, state_layout_.logical(), seed, whole);
}

void Replica::initialise(std::uint64_t seed) {
  TORCH_CHECK(!owner_, "a replica with slices of its parameters alone cannot draw them by itself");
  if (state_layout_.is_logical()) {
    draw(seed, parameters_);
  } else {
    const at::Tensor whole = state_layout_.logical().allocate(parameters_.scalar_type(), at::kCPU);
    draw(seed, whole);
    for (const Segment& segment : state_layout_.segments(held_->rank))
      parameters_.narrow(0, segment.held, segment.numel)
          .copy_(whole.narrow(0, segment.logical, segment.numel));
  }
  round_parameters();
}

void Replica::round_parameters() {
  if (!rounded_.defined()) return;
  if (!owner_) {
    rounded_.copy_(parameters_);
    return;
  }
  std::int64_t done = 0;
  for (const parallel::Range& range : layout().owned(*owner_)) {
    rounded_.narrow(0, range.begin, range.numel()).copy_(parameters_.narrow(0, done, range.numel()));
    done += range.numel();
  }
}

/// Into what is cleared and what is written over.
void Replica::part_gradients(bool others_write) {
  std::int64_t done = 0;
  bool has_unread = false;  // in what is written over
  const auto clear_to = [&](std::int64_t end) {
    if (done < end) cleared_.push_back(gradients_.narrow(0, done, end - done));
  };
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    const auto& entry = layout().entries()[i];
    if (!rounded_.defined() || specs_[i].shape.size() < 2 || entry.numel < kLargeMatrix) continue;
    large_.push_back(leaves_[i]);
    has_unread = has_unread || specs_[i].reads != model::Reads::kAll;
    clear_to(entry.offset);
    done = entry.offset + entry.numel;
  }
  clear_to(layout().size());
  // Ranks write to one another's gradients there too where no product does.
  if (others_write && has_unread)
    kept_zero_ = at::tensor(unread_in_read_blocks(), at::kLong).to(gradients_.device());
}

void Replica::clear_gradients() {
  for (const at::Tensor& leaf : large_) kernels::forget_gradient(leaf);
  at::_foreach_zero_(cleared_);  // a launch for a hundred of them
  if (kept_zero_.defined()) gradients_.index_fill_(0, kept_zero_, 0);
}

std::int64_t Replica::parameter_count() const { return model::parameter_count(specs_); }

void Replica::for_each_unread_run(
    const std::function<void(optim::Range all, optim::Range blocks)>& visit) const {
  constexpr std::int64_t kBlock = kernels::kDecayBlock;
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    if (specs_[i].reads == model::Reads::kAll) continue;
    const std::int64_t size = specs_[i].shape.back();
    const std::vector<std::int64_t> positions = rows_of(specs_[i], held_);
    const auto rows = static_cast<std::int64_t>(positions.size());
    const auto& entry = layout().entries()[i];
    for (std::int64_t row = 0; row < entry.numel / size; ++row) {
      const std::int64_t position = positions[static_cast<std::size_t>(row % rows)];
      const std::int64_t above = (row / rows * size + position) * size;  // where the whole matrices have it
      const std::int64_t begin = (above + position + 1 + kBlock - 1) / kBlock * kBlock;
      const std::int64_t end = (above + size) / kBlock * kBlock;
      const std::int64_t here = entry.offset + row * size - above;
      const optim::Range all{here + above + position + 1, here + above + size};
      visit(all, begin < end ? optim::Range{here + begin, here + end} : optim::Range{all.end, all.end});
    }
  }
}

std::vector<optim::Range> Replica::idle_ranges() const {
  std::vector<optim::Range> ranges;
  for_each_unread_run([&](const optim::Range& /*all*/, const optim::Range& blocks) {
    if (blocks.numel() > 0) ranges.push_back(blocks);
  });
  return ranges;
}

std::vector<std::int64_t> Replica::unread_in_read_blocks() const {
  std::vector<std::int64_t> positions;
  for_each_unread_run([&](const optim::Range& all, const optim::Range& blocks) {
    for (std::int64_t at = all.begin; at < blocks.begin; ++at) positions.push_back(at);
    for (std::int64_t at = blocks.end; at < all.end; ++at) positions.push_back(at);
  });
  return positions;
}

std::vector<optim::DecayRange> Replica::decayed_ranges() const {
  const std::vector<optim::Range> idle = idle_ranges();
  auto next_idle = idle.begin();
  std::vector<optim::DecayRange> ranges;
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    const auto& entry = layout().entries()[i];
    std::int64_t begin = entry.offset;
    const std::int64_t end = begin + entry.numel;
    const bool decays = specs_[i].decay == model::WeightDecay::kApply;
    for (; next_idle != idle.end() && next_idle->begin < end; begin = next_idle++->end)
      if (decays) ranges.push_back({begin, next_idle->begin});
    if (decays && begin < end) ranges.push_back({begin, end});
  }
  return ranges;
}

void Replica::on_gradient_ready(const std::function<void(std::int64_t entry)>& ready) {
  TORCH_CHECK(gradients_.defined(), "a replica for inference has no gradients");
  for (std::size_t i = 0; i < leaves_.size(); ++i) {
    kernels::on_gradient_ready(leaves_[i], [ready, entry = static_cast<std::int64_t>(i)] { ready(entry); });
  }
}

void Replica::on_parameter_use(std::function<void(std::int64_t entry)> before_use) {
  model_->on_parameter_use(std::move(before_use));
}

model::Recompute recompute_of(const TrainOptions& options) {
  if (options.recompute == "gate") return model::Recompute::kGate;
  if (options.recompute == "block") return model::Recompute::kBlock;
  TORCH_CHECK(options.recompute == "none", "train.recompute is ", options.recompute,
              ", allowed are none, gate and block");
  return model::Recompute::kNone;
}

std::unique_ptr<Replica> load_replica(const CheckpointInfo& info, const Placement& placement,
                                      ReplicaUse use) {
  auto replica = std::make_unique<Replica>(info.model, info.vocabulary_size, placement, use);
  load_checkpoint(info, replica->layout(),
                  {.parameters = replica->parameters(), .first_moment = {}, .second_moment = {}});
  replica->round_parameters();
  return replica;
}

}  // namespace sluice::train
