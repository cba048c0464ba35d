#include "trainer/train/step.h"

#include "trainer/train/device_step.h"
#include "trainer/train/host_step.h"

namespace sluice::train {

StepPlan step_plan(const RunOptions& options, const dataio::Slicing& slicing) {
  return {.slicing = slicing,
          .optim = options.optim,
          .total_steps = options.train.steps,
          .graphs = options.train.cuda_graph == "on" ? Graphs::kOn : Graphs::kOff,
          .sharding = options.parallel.zero == 1 ? Sharding::kState : Sharding::kNone};
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

std::unique_ptr<TrainStep> make_train_step(Replica& replica, const StepPlan& plan,
                                           parallel::Communicator& communicator) {
  if (replica.parameters().is_cuda()) return std::make_unique<DeviceStep>(replica, plan, communicator);
  return std::make_unique<HostStep>(replica, plan, communicator);
}

}  // namespace sluice::train
