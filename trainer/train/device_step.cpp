#include "trainer/train/device_step.h"

#include <ATen/ops/add.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

#include "parallel/at_index.h"
#include "parallel/device_wait.h"
#include "parallel/trace_range.h"
#include "trainer/kernels/sharded_attention.h"
#include "trainer/optim/schedule.h"
#include "trainer/train/stopwatch.h"

namespace sluice::train {

using parallel::at_index;

namespace {

GatheredEarly gathered_early(const Replica& replica, const StepPlan& plan,
                             const parallel::BucketGather& gather) {
  if (plan.sharding == Sharding::kNone || gather.other().defined()) return GatheredEarly::kNothing;
  return replica.layout().differs_by_place() ? GatheredEarly::kHeldByAll : GatheredEarly::kUsedFirst;
}

}  // namespace

DeviceStep::DeviceStep(Replica& replica, const StepPlan& plan, parallel::BucketGroups groups)
    : replica_(replica),
      plan_(plan),
      groups_(groups),
      communicator_(groups.all()),
      optimizer_(plan.optim, replica.parameters(), replica.decayed_ranges(),
                 owned_ranges(replica.layout(), plan.sharding, communicator_.rank())),
      reducer_(replica.layout(), replica.gradients(), groups,
               reducer_options(plan, parallel::LastBucket::kInHalves)),
      gather_(replica.layout(), replica.computed_with(), groups),
      blocks_(block_updates(replica)),
      norm_sums_(
          replica,
          reducer_.halves_last() ? SquareSums::kOfOwnSlices : square_sums(replica.layout(), plan.sharding),
          communicator_, blocks_),
      early_(gathered_early(replica, plan, gather_)),
      updates_(order_updates(replica, optimizer_, blocks_,
                             {.early = early_, .awaits_last = reducer_.halves_last()},
                             plan.sharding == Sharding::kState ? gather_.other() : at::Tensor())),
      form_(plan.samples.value_or(causal_form(replica.options().seq_len))),
      input_(replica.parameters().device(), plan.slicing.micro_batch, form_.row_tokens),
      arrived_(at::empty_like(input_.bytes)),
      clearing_(replica.parameters().device()),
      feeding_(replica.parameters().device()),
      reporting_(replica.parameters().device()),
      reading_(replica.parameters().device()) {
  const auto owner = replica.owner();
  TORCH_CHECK(!owner || (plan.sharding == Sharding::kState && *owner == communicator_.rank()), "rank ",
              communicator_.rank(), " has the parameters of ", owner.value_or(-1), " alone");
  const at::Device device = replica.parameters().device();
  const auto on_device = [&](at::IntArrayRef shape, at::ScalarType dtype) {
    return at::zeros(shape, at::TensorOptions().dtype(dtype).device(device));
  };
  const std::int64_t rows = plan.slicing.micro_batch;
  const std::int64_t length = replica.options().seq_len;
  agreed_ = on_device({kernels::kAgreed}, at::kDouble);
  decision_ = on_device({kernels::kDecision}, at::kDouble);
  tokens_BT_ = on_device({rows, length}, at::kLong);
  targets_BT_ = on_device({rows, length}, at::kLong);
  if (const kernels::SequenceExchange* const sequence = replica.sequence())
    held_t_ = kernels::held_positions(*sequence, device);
  if (model::draws_in_training(replica.options())) {
    row_numbers_ = at::arange(rows, at::TensorOptions().dtype(at::kLong).device(device));
    samples_B_ = on_device({rows}, at::kLong);
  }
  gradient_scale_ = at::full({}, 1.0 / static_cast<double>(plan.slicing.global_batch * form_.targets),
                             at::TensorOptions().dtype(at::kFloat).device(device));
  const std::int64_t micro_batches = plan.slicing.micro_batches();
  for (Flight& flight : flights_) {
    for (std::int64_t micro = 0; micro < micro_batches; ++micro)
      flight.inputs.emplace_back(at::kCPU, rows, form_.row_tokens);
    flight.decision = parallel::pinned_empty(decision_.sizes(), at::kDouble);
    flight.points = std::vector<std::array<parallel::DeviceEvent, kPoints>>(at_index(micro_batches));
  }
  replica_.on_gradient_ready([this](std::int64_t entry) {
    if (reducing_) reducer_.mark_ready(entry);
  });
  replica_.on_parameter_use([this](std::int64_t entry) {
    if (gathering_) gather_.wait(entry);
  });
}

void DeviceStep::begin(std::int64_t step, dataio::Loader& loader, const std::function<StopWish()>& wish) {
  TORCH_CHECK(static_cast<std::int64_t>(unfinished_.size()) <= lag(), "DeviceStep: step ", step,
              " begun while ", unfinished_.size(), " are unfinished");
  const parallel::TraceRange range("step");
  Flight& flight = flights_[at_index(step) % flights_.size()];
  flight.step = step;
  flight.data_wait_s = 0;
  flight.begun.record();
  flight.since =
      unfinished_.empty() ? &flight.begun : &flights_[at_index(unfinished_.back()) % flights_.size()].done;
  fill_scalars(step, wish(), flight);
  for (std::int64_t micro = 0; micro < plan_.slicing.micro_batches(); ++micro) {
    feed(micro, loader, flight);
    enqueue(micro, flight);
  }
  flight.done.record();
  report(flight);
  unfinished_.push_back(step);
}

void DeviceStep::fill_scalars(std::int64_t step, StopWish wish, Flight& flight) {
  flight.lr = optim::learning_rate(plan_.optim, replica_.options().d_model, step, plan_.total_steps);
  flight.scalars = optim::update_scalars(plan_.optim, flight.lr, step + 1);
  flight.start = {.wishes = wish == StopWish::kStop ? 1.0 : 0.0};
}

/// The next micro-batch on its way to the device, as soon as the work has taken the one before; waits for
/// data alone.
void DeviceStep::feed(std::int64_t micro, dataio::Loader& loader, Flight& flight) {
  Stopwatch watch;
  std::optional<parallel::TraceRange> range(std::in_place, "data");
  const dataio::Batch batch = loader.next();
  range.reset();
  flight.data_wait_s += watch.lap();
  TORCH_CHECK(batch.step == flight.step && batch.micro == micro, "the loader gave micro-batch ", batch.micro,
              " of step ", batch.step, ", expected ", micro, " of ", flight.step);
  const MicroInput& input = flight.inputs[at_index(micro)];
  input.fill(flight.scalars, flight.start, batch);
  const auto copy = [&] {
    parallel::copy_to_device(arrived_, input.bytes.const_data_ptr(), input.bytes.nbytes());
  };
  if (taken_ == nullptr) {
    feeding_.run(copy);
  } else {
    feeding_.run_apart([&] {
      taken_->block_stream();
      copy();
    });
  }
  feeding_.join();
  taken_ = &flight.points[at_index(micro)][kBegin];
}

/// The decision comes back beside the update that follows it.
void DeviceStep::report(Flight& flight) {
  reporting_.run_apart([&] {
    flight.points.back()[kDecided].block_stream();
    parallel::copy_to_host(flight.decision, decision_);
    flight.reported.record();
  });
  reporting_.join();  // the next decision comes after
}

DeviceStep::Part DeviceStep::part_of(std::int64_t micro) const {
  const bool first = micro == 0;
  const bool last = micro + 1 == plan_.slicing.micro_batches();
  if (first && last) return Part::kOnly;
  if (first) return Part::kFirst;
  return last ? Part::kLast : Part::kMiddle;
}

/// Operator by operator the first time, so that what is made on first use (library handles, connections,
/// workspaces) is there when the work is captured.
void DeviceStep::enqueue(std::int64_t micro, Flight& flight) {
  const Part part = part_of(micro);
  CapturedPart& captured = parts_[static_cast<std::size_t>(part)];
  std::vector<parallel::DeviceEvent*> points;
  const bool ends = part == Part::kOnly || part == Part::kLast;
  for (std::size_t point = 0; point < (ends ? kPoints : kMostReduced); ++point)
    points.push_back(&flight.points[at_index(micro)][point]);
  if (plan_.graphs == Graphs::kOff || captured.runs++ == 0) {
    auto next = points.begin();
    run_part(part, [&next] { (*next++)->record(); });
    return;
  }
  if (!captured.graph) {
    parallel::release_cached_memory();  // what ran before left blocks that the graph cannot use
    const auto other = std::find_if(parts_.begin(), parts_.end(),
                                    [](const CapturedPart& one) { return one.graph.has_value(); });
    const parallel::DeviceGraph* const neighbour = other == parts_.end() ? nullptr : &*other->graph;
    captured.graph.emplace();
    captured.graph->capture([&](const Mark& mark) { run_part(part, mark); }, neighbour);
  }
  captured.graph->replay(points);
}

void DeviceStep::run_part(Part part, const Mark& mark) {
  const bool ends = part == Part::kOnly || part == Part::kLast;
  input_.bytes.copy_(arrived_);
  mark();
  const bool begins = part == Part::kOnly || part == Part::kFirst;
  if (begins) begin_step();
  std::optional<parallel::TraceRange> range(std::in_place, "forward");
  kernels::split_windows(input_.windows, input_.rows, tokens_BT_, targets_BT_);
  if (samples_B_.defined()) at::add_out(samples_B_, row_numbers_, input_.first_sample);
  const auto held = [this](const at::Tensor& all_BT) {
    return held_t_.defined() ? all_BT.index_select(1, held_t_) : all_BT;
  };
  const at::Tensor loss = replica_.model().training_loss_sum(held(tokens_BT_), held(targets_BT_), samples_B_);
  agreed_.select(0, 0).add_(loss.detach());
  if (std::exchange(gathering_, false)) gather_.finish();
  mark();
  range.reset();
  range.emplace("backward");
  parallel::Work agreement;  // small, and known now: beside backward nothing waits for it
  if (ends) agreement = communicator_.all_reduce_async(agreed_, parallel::ReduceOp::kSum);
  reducing_ = ends;
  if (reducing_) reducer_.start();
  if (begins) clearing_.join();
  loss.backward(gradient_scale_);
  reducing_ = false;
  mark();
  range.reset();
  if (!ends) return;
  range.emplace("all_reduce");
  reduce(agreement, mark);
  range.reset();
  range.emplace("optimizer");
  update(mark);
}

/// Under ZeRO-1 the parameters that others updated come in while forward computes with those that are there.
/// What was gathered early is there since the step before, or settle().
void DeviceStep::begin_step() {
  clearing_.run([this] { replica_.clear_gradients(); });  // beside forward
  agreed_.copy_(input_.start);
  gathering_ = plan_.sharding == Sharding::kState;
  if (!gathering_) return;
  if (early_ == GatheredEarly::kHeldByAll)
    gather_.start(parallel::Holders::kSamePlace);
  else if (early_ == GatheredEarly::kUsedFirst)
    gather_.start_but_first();
  else
    gather_.start_written();
}

/// The gradient of what forward uses first is the last one exchanged, or the last but a small one: while it
/// is on its way, those before are summed.
void DeviceStep::reduce(parallel::Work& agreement, const Mark& mark) {
  reducer_.wait(norm_sums_.early_buckets());
  mark();
  norm_sums_.begin();
  mark();
  reducer_.finish_slices();
  agreement.wait();
  mark();
}

void DeviceStep::update(const Mark& mark) {
  const at::Tensor& sums = norm_sums_.finish();
  reducer_.gather_last();  // after the sums, which are small and wanted first
  kernels::decide_update(sums, agreed_, input_.scalars, decision_);
  mark();
  state_read_.block_stream();
  const auto run = [this](const std::vector<kernels::UpdateSlice>& slices) {
    kernels::adamw_update(slices, input_.scalars, decision_);
  };
  run(updates_.first);
  if (early_ == GatheredEarly::kHeldByAll) gather_.start(parallel::Holders::kAllRanks);
  if (early_ == GatheredEarly::kUsedFirst) gather_.start_first();
  run(updates_.most);
  mark();
  reducer_.finish();
  if (early_ != GatheredEarly::kNothing) gather_.finish();
  mark();
  run(updates_.last);
  mark();
}

void DeviceStep::settle() {
  if (plan_.sharding == Sharding::kNone) return;
  parallel::BucketGather gather(replica_.layout(), replica_.computed_with(), groups_);
  gather.start();
  gather.finish();
}

/// Slices are put together by exchanges, which keep one order with those of the steps: in the step's stream,
/// and the host waits, since a peer may be gone.
std::function<void()> DeviceStep::read_state(const std::function<void()>& copy) {
  if (square_sums(replica_.layout(), plan_.sharding) == SquareSums::kOfOwnSlices) {
    copy();
    state_read_.record();
    parallel::wait_for_event(state_read_, communicator_, "copy of the state from the GPU");
    return [] {};
  }
  reading_.run([&] {
    copy();
    state_read_.record();
  });
  return [this] {
    constexpr std::chrono::microseconds kPause{200};
    while (!state_read_.done()) std::this_thread::sleep_for(kPause);
  };
}

StepResult DeviceStep::finish() {
  TORCH_CHECK(!unfinished_.empty(), "DeviceStep: finish() without begin()");
  const Flight& flight = flights_[at_index(unfinished_.front()) % flights_.size()];
  const std::string what = fmt::format("step {} on the GPU", flight.step + 1);
  parallel::wait_for_event(flight.done, communicator_, what);
  parallel::wait_for_event(flight.reported, communicator_, what);
  unfinished_.pop_front();
  return read(flight);
}

StepResult DeviceStep::read(const Flight& flight) const {
  kernels::Decision decision;
  std::memcpy(static_cast<void*>(&decision), flight.decision.const_data_ptr<double>(), sizeof decision);
  StepResult result;
  result.loss = decision.loss_sum / static_cast<double>(plan_.slicing.global_batch * form_.targets);
  result.lr = flight.lr;
  result.grad_norm = decision.norm;
  result.skipped = decision.go == 0;
  result.stop = decision.wishes > 0 ? StopWish::kStop : StopWish::kGoOn;
  const parallel::DeviceEvent* before = flight.since;
  double idle_s = 0;  // the device had nothing to do: the batch was not there yet, or the host was late
  for (const auto& points : flight.points) {
    idle_s += points[kBegin].seconds_since(*before);
    result.forward_s += points[kForwardDone].seconds_since(points[kBegin]);
    result.backward_s += points[kBackwardDone].seconds_since(points[kForwardDone]);
    before = &points[kBackwardDone];
  }
  const auto& last = flight.points.back();
  const auto between = [&](Point begin, Point end) { return last[end].seconds_since(last[begin]); };
  result.comm_exposed_s = between(kBackwardDone, kMostReduced) + between(kMostSummed, kReduced) +
                          between(kMostUpdated, kGathered);
  result.optimizer_s =
      between(kMostReduced, kMostSummed) + between(kReduced, kMostUpdated) + between(kGathered, kUpdated);
  result.data_wait_s = std::min(idle_s, flight.data_wait_s);
  result.step_s = flight.done.seconds_since(*flight.since);
  return result;
}

}  // namespace sluice::train
