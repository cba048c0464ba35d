#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>

#include "parallel/bucket_gather.h"
#include "parallel/gradient_reducer.h"
#include "trainer/train/step.h"
#include "trainer/train/stopwatch.h"

namespace sluice::train {

/// The step on CPU ranks: begin() does all of it.
class HostStep final : public TrainStep {
 public:
  HostStep(Replica& replica, const StepPlan& plan, parallel::BucketGroups groups);

  void begin(std::int64_t step, dataio::Loader& loader, const std::function<StopWish()>& wish) override;
  StepResult finish() override;
  void settle() override {}
  [[nodiscard]] std::function<void()> read_state(const std::function<void()>& copy) override;
  [[nodiscard]] std::int64_t lag() const override { return 0; }
  [[nodiscard]] const optim::AdamW& optimizer() const override { return optimizer_; }

 private:
  StepResult compute(std::int64_t step, dataio::Loader& loader, const std::function<StopWish()>& wish);
  /// Adds the micro-batch's gradients to the arena; returns its loss sum in nats.
  double accumulate(const dataio::Batch& batch, StepResult& result);
  void fill_tokens(const dataio::Batch& batch);
  /// Sums what one number each says of a step over ranks: loss, faults, wishes to stop.
  void agree(double loss_sum, StopWish wish, StepResult& result);
  /// The squares of all slices, exchanged where each rank has reduced its own alone: the same bits either
  /// way.
  [[nodiscard]] double gradient_norm();
  void update(std::int64_t step, StepResult& result, Stopwatch& watch);

  Replica& replica_;
  StepPlan plan_;
  parallel::Communicator& communicator_;  ///< all ranks
  optim::AdamW optimizer_;
  parallel::GradientReducer reducer_;
  parallel::BucketGather gather_;
  std::vector<optim::Range> summed_;  ///< the slices whose squares this rank sums; empty: another rank does
  at::Tensor tokens_BT_;
  at::Tensor targets_BT_;
  at::Tensor samples_B_;
  at::Tensor held_t_;  ///< positions of the sequence that this rank computes; undefined: all
  SampleForm form_;
  double gradient_scale_;  ///< 1 / targets of the global batch
  bool reducing_ = false;
  std::optional<StepResult> result_;  ///< of the step begun
};

}  // namespace sluice::train
