#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

#include "dataio/loader.h"
#include "dataio/order.h"
#include "parallel/communicator.h"
#include "parallel/gradient_reducer.h"
#include "trainer/optim/adamw.h"
#include "trainer/optim/options.h"
#include "trainer/train/replica.h"

namespace sluice::train {

/// What does not change from step to step.
struct StepPlan {
  dataio::Slicing slicing;
  optim::OptimOptions optim;
  std::int64_t total_steps = 0;
  std::int64_t bucket_elements = 0;  ///< gradient bucket of the reducer
};

enum class StopWish { kGoOn, kStop };

/// One step as this rank saw it. Seconds are wall time; loss, norm and wish are agreed by all ranks.
struct StepResult {
  double loss = 0;  ///< nats per token, mean over the global batch, before the update
  double lr = 0;
  double grad_norm = 0;  ///< before clipping
  double data_wait_s = 0;
  double forward_s = 0;
  double backward_s = 0;
  double comm_exposed_s = 0;  ///< communication that backward did not hide
  double optimizer_s = 0;     ///< norm, clip, update
  double step_s = 0;
  StopWish stop = StopWish::kGoOn;  ///< kStop if any rank wished it
};

/// The training step of one data-parallel rank: forward and backward of its micro-batches, reduction of the
/// gradients over ranks while the last backward runs, clip, AdamW. The loss is the sum over all ranks divided
/// by the global token count.
class TrainStep {
 public:
  /// `replica` and `communicator` outlive the step; one step at a time for a replica.
  TrainStep(Replica& replica, const StepPlan& plan, parallel::Communicator& communicator);
  TrainStep(const TrainStep&) = delete;
  TrainStep& operator=(const TrainStep&) = delete;

  /// Step `step` (0-based) on the loader's next micro-batches, which must be that step's. Collective. Throws
  /// AgreedError, before any parameter changed, where loss or gradient is not finite. `wish` is asked once,
  /// when the gradients are there.
  StepResult run(std::int64_t step, dataio::Loader& loader, const std::function<StopWish()>& wish);

  [[nodiscard]] const optim::AdamW& optimizer() const { return optimizer_; }

 private:
  /// Adds the micro-batch's gradients to the arena; returns its loss sum in nats.
  double accumulate(const dataio::Batch& batch, StepResult& result);
  void fill_tokens(const dataio::Batch& batch);
  /// Sums what one number each says of a step over ranks: loss, faults, wishes to stop.
  void agree(std::int64_t step, double loss_sum, StopWish wish, StepResult& result);
  void update(std::int64_t step, StepResult& result);

  Replica& replica_;
  StepPlan plan_;
  parallel::Communicator& communicator_;
  optim::AdamW optimizer_;
  parallel::GradientReducer reducer_;
  at::Tensor tokens_BT_;
  at::Tensor targets_BT_;
  double gradient_scale_;  ///< 1 / tokens of the global batch
  bool reducing_ = false;
};

}  // namespace sluice::train
