#include "trainer/train/step.h"

#include "trainer/train/device_step.h"
#include "trainer/train/host_step.h"

namespace sluice::train {

Sharding sharding_of(const RunOptions& options) {
  return options.parallel.zero == 1 ? Sharding::kState : Sharding::kNone;
}

std::optional<std::int64_t> parameter_owner(Sharding sharding, const Placement& placement,
                                            std::int64_t rank) {
  if (sharding == Sharding::kNone || placement.compute == placement.master) return std::nullopt;
  return rank;
}

StepPlan step_plan(const RunOptions& options, const dataio::Slicing& slicing) {
  return {.slicing = slicing,
          .samples = sample_form(options),
          .optim = options.optim,
          .total_steps = options.train.steps,
          .graphs = options.train.cuda_graph == "on" ? Graphs::kOn : Graphs::kOff,
          .sharding = sharding_of(options),
          .reduce_dtype = options.train.reduce_dtype == "bf16" ? at::kBFloat16 : at::kFloat};
}

StepResult run_step(TrainStep& train_step, std::int64_t step, dataio::Loader& loader,
                    const std::function<StopWish()>& wish) {
  train_step.begin(step, loader, wish);
  return train_step.finish();
}

std::vector<optim::Range> owned_ranges(const parallel::ArenaLayout& layout, Sharding sharding,
                                       std::int64_t rank) {
  if (sharding == Sharding::kNone) return {{0, layout.size()}};
  std::vector<optim::Range> ranges;
  for (const auto& [begin, end] : layout.owned(rank)) ranges.push_back({begin, end});
  return ranges;
}

parallel::ReducerOptions reducer_options(const StepPlan& plan, parallel::LastBucket last) {
  return {.mode = plan.sharding == Sharding::kNone ? parallel::ReduceMode::kAllReduce
                                                   : parallel::ReduceMode::kReduceScatter,
          .last = last,
          .progress = plan.progress,
          .wire = plan.reduce_dtype};
}

SquareSums square_sums(const parallel::ArenaLayout& layout, Sharding sharding) {
  const bool all = sharding == Sharding::kNone && !layout.differs_by_place();
  return all ? SquareSums::kOfAllSlices : SquareSums::kOfOwnSlices;
}

std::vector<optim::Range> slices_to_sum(const parallel::ArenaLayout& layout, SquareSums sums,
                                        std::int64_t rank) {
  std::vector<optim::Range> ranges;
  for (const auto& [begin, end] : layout.slices()) {
    const bool own =
        sums == SquareSums::kOfAllSlices || static_cast<std::int64_t>(ranges.size()) % layout.world() == rank;
    ranges.push_back(own ? optim::Range{begin, end} : optim::Range{});
  }
  return ranges;
}

std::unique_ptr<TrainStep> make_train_step(Replica& replica, const StepPlan& plan,
                                           parallel::BucketGroups groups) {
  if (replica.parameters().is_cuda()) return std::make_unique<DeviceStep>(replica, plan, groups);
  return std::make_unique<HostStep>(replica, plan, groups);
}

}  // namespace sluice::train
