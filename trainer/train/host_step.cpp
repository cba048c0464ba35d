#include "trainer/train/host_step.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "parallel/trace_range.h"
#include "trainer/kernels/sharded_attention.h"
#include "trainer/optim/schedule.h"
#include "trainer/train/errors.h"

namespace sluice::train {

using parallel::TraceRange;

namespace {

dataio::Batch next_batch(dataio::Loader& loader) {
  const TraceRange range("data");
  return loader.next();
}

}  // namespace

HostStep::HostStep(Replica& replica, const StepPlan& plan, parallel::BucketGroups groups)
    : replica_(replica),
      plan_(plan),
      communicator_(groups.all()),
      optimizer_(plan.optim, replica.parameters(), replica.decayed_ranges(),
                 owned_ranges(replica.layout(), plan.sharding, communicator_.rank())),
      reducer_(replica.layout(), replica.gradients(), groups,
               reducer_options(plan, parallel::LastBucket::kWhole)),
      gather_(replica.layout(), replica.parameters(), groups),
      summed_(slices_to_sum(replica.layout(), square_sums(replica.layout(), plan.sharding),
                            communicator_.rank())),
      tokens_BT_(at::zeros({plan.slicing.micro_batch, replica.options().seq_len}, at::kLong)),
      targets_BT_(at::zeros({plan.slicing.micro_batch, replica.options().seq_len}, at::kLong)),
      samples_B_(at::zeros({plan.slicing.micro_batch}, at::kLong)),
      form_(plan.samples.value_or(causal_form(replica.options().seq_len))),
      gradient_scale_(1.0 / static_cast<double>(plan.slicing.global_batch * form_.targets)) {
  if (const kernels::SequenceExchange* const sequence = replica_.sequence())
    held_t_ = kernels::held_positions(*sequence, at::kCPU);
  replica_.on_gradient_ready([this](std::int64_t entry) {
    if (reducing_) reducer_.mark_ready(entry);
  });
}

void HostStep::begin(std::int64_t step, dataio::Loader& loader, const std::function<StopWish()>& wish) {
  TORCH_CHECK(!result_, "HostStep: step ", step, " begun before the one before it was finished");
  result_ = compute(step, loader, wish);
}

std::function<void()> HostStep::read_state(const std::function<void()>& copy) {
  copy();
  return [] {};
}

StepResult HostStep::finish() {
  TORCH_CHECK(result_, "HostStep: finish() without begin()");
  return *std::exchange(result_, std::nullopt);
}

StepResult HostStep::compute(std::int64_t step, dataio::Loader& loader,
                             const std::function<StopWish()>& wish) {
  StepResult result;
  const TraceRange range("step");
  Stopwatch whole;
  replica_.clear_gradients();
  double loss_sum = 0;
  const std::int64_t micro_batches = plan_.slicing.micro_batches();
  for (std::int64_t micro = 0; micro < micro_batches; ++micro) {
    Stopwatch watch;
    const dataio::Batch batch = next_batch(loader);
    result.data_wait_s += watch.lap();
    TORCH_CHECK(batch.step == step && batch.micro == micro, "the loader gave micro-batch ", batch.micro,
                " of step ", batch.step, ", expected ", micro, " of ", step);
    reducing_ = micro + 1 == micro_batches;
    if (reducing_) reducer_.start();
    loss_sum += accumulate(batch, result);
  }
  Stopwatch watch;
  {
    const TraceRange reducing("all_reduce");
    reducer_.finish();
  }
  reducing_ = false;
  result.comm_exposed_s = watch.lap();
  result.grad_norm = gradient_norm();
  result.optimizer_s = watch.lap();
  agree(loss_sum, wish(), result);
  result.comm_exposed_s += watch.lap();
  result.lr = optim::learning_rate(plan_.optim, replica_.options().d_model, step, plan_.total_steps);
  if (!result.skipped) update(step, result, watch);
  result.step_s = whole.lap();
  return result;
}

void HostStep::fill_tokens(const dataio::Batch& batch) {
  const auto length = static_cast<std::size_t>(tokens_BT_.size(1));
  const auto width = static_cast<std::size_t>(form_.row_tokens);
  auto* const tokens = tokens_BT_.mutable_data_ptr<std::int64_t>();
  auto* const targets = targets_BT_.mutable_data_ptr<std::int64_t>();
  for (std::int64_t row = 0; row < tokens_BT_.size(0); ++row) {
    const auto ids = batch.tokens.subspan(static_cast<std::size_t>(row) * width, width);
    std::ranges::copy(ids.first(length), tokens + row * tokens_BT_.size(1));
    samples_B_.mutable_data_ptr<std::int64_t>()[row] = batch.samples.first + row;
    auto* const row_targets = targets + row * tokens_BT_.size(1);
    if (row < batch.rows) {
      std::ranges::copy(ids.last(length), row_targets);
    } else {
      std::fill_n(row_targets, length, model::kIgnore);
    }
  }
}

double HostStep::accumulate(const dataio::Batch& batch, StepResult& result) {
  Stopwatch watch;
  fill_tokens(batch);
  std::optional<TraceRange> range(std::in_place, "forward");
  const auto held = [this](const at::Tensor& all_BT) {
    return held_t_.defined() ? all_BT.index_select(1, held_t_) : all_BT;
  };
  const at::Tensor loss = replica_.model().training_loss_sum(held(tokens_BT_), held(targets_BT_), samples_B_);
  const double loss_sum = loss.item().toDouble();
  result.forward_s += watch.lap();
  range.reset();
  range.emplace("backward");
  loss.backward(at::full({}, gradient_scale_, loss.options()));
  result.backward_s += watch.lap();
  return loss_sum;
}

void HostStep::agree(double loss_sum, StopWish wish, StepResult& result) {
  const at::Tensor summed = at::zeros({3}, at::kDouble);
  auto* const values = summed.mutable_data_ptr<double>();
  values[0] = loss_sum;
  values[1] = std::isfinite(loss_sum) && std::isfinite(result.grad_norm) ? 0 : 1;
  values[2] = wish == StopWish::kStop ? 1 : 0;
  communicator_.all_reduce(summed, parallel::ReduceOp::kSum);
  result.loss = values[0] * gradient_scale_;
  result.skipped = values[1] > 0;
  result.stop = values[2] > 0 ? StopWish::kStop : StopWish::kGoOn;
}

double HostStep::gradient_norm() {
  const at::Tensor sums = optim::slice_sums(replica_.gradients(), summed_);
  if (square_sums(replica_.layout(), plan_.sharding) == SquareSums::kOfOwnSlices)
    communicator_.all_reduce(sums, parallel::ReduceOp::kSum);
  return optim::global_norm(sums);
}

void HostStep::update(std::int64_t step, StepResult& result, Stopwatch& watch) {
  {
    const TraceRange range("optimizer");
    optimizer_.step(replica_.gradients(), result.lr, optim::clip_scale(result.grad_norm, plan_.optim.clip),
                    step + 1);
  }
  result.optimizer_s += watch.lap();
  if (plan_.sharding == Sharding::kNone) return;
  gather_.start();
  gather_.finish();
  result.comm_exposed_s += watch.lap();
}

}  // namespace sluice::train
