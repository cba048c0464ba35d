#include "trainer/train/step.h"

#include "trainer/train/host_step.h"

namespace sluice::train {

StepResult run_step(TrainStep& train_step, std::int64_t step, dataio::Loader& loader,
                    const std::function<StopWish()>& wish) {
  train_step.begin(step, loader, wish);
  return train_step.finish();
}

std::unique_ptr<TrainStep> make_train_step(Replica& replica, const StepPlan& plan,
                                           parallel::Communicator& communicator) {
  return std::make_unique<HostStep>(replica, plan, communicator);
}

}  // namespace sluice::train
