#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "parallel/bucket_gather.h"
#include "parallel/device_stream.h"
#include "parallel/gradient_reducer.h"
#include "parallel/side_stream.h"
#include "trainer/kernels/device_update.h"
#include "trainer/train/micro_input.h"
#include "trainer/train/norm_sums.h"
#include "trainer/train/step.h"
#include "trainer/train/update_slices.h"

namespace sluice::train {

/// The step on a GPU: all of it (forward, backward, reduction, norm, clip, update) is enqueued on one stream,
/// the first time operator by operator, from the second on as captured graphs, one launch for each
/// micro-batch. What changes from step to step is read from device memory; loss and norm come back one step
/// late, so that the GPU never waits for the host. Results are the same bits with and without graphs.
class DeviceStep final : public TrainStep {
 public:
  /// The replica lives on a GPU, the groups reduce tensors of that GPU in stream order.
  DeviceStep(Replica& replica, const StepPlan& plan, parallel::BucketGroups groups);

  void begin(std::int64_t step, dataio::Loader& loader, const std::function<StopWish()>& wish) override;
  StepResult finish() override;
  void settle() override;
  [[nodiscard]] std::function<void()> read_state(const std::function<void()>& copy) override;
  [[nodiscard]] std::int64_t lag() const override { return 1; }
  [[nodiscard]] const optim::AdamW& optimizer() const override { return optimizer_; }

 private:
  using Mark = std::function<void()>;

  /// A micro-batch's place in its step; each place is captured as a graph of its own.
  enum class Part : std::size_t { kOnly, kFirst, kMiddle, kLast };
  static constexpr std::size_t kParts = 4;

  /// Points of a micro-batch's work whose times are read.
  enum Point : std::size_t {
    kBegin,
    kForwardDone,
    kBackwardDone,
    kMostReduced,  ///< all buckets but the last
    kMostSummed,
    kReduced,
    kDecided,
    kMostUpdated,
    kGathered,  ///< the last bucket, where it comes in halves
    kUpdated,
    kPoints
  };

  /// One step between begin() and finish().
  struct Flight {
    std::int64_t step = -1;
    kernels::UpdateScalars scalars;
    kernels::Agreed start;
    std::vector<MicroInput> inputs;                                  ///< by micro-batch, page-locked
    at::Tensor decision;                                             ///< page-locked: kernels::Decision
    std::vector<std::array<parallel::DeviceEvent, kPoints>> points;  ///< by micro-batch
    parallel::DeviceEvent begun;
    parallel::DeviceEvent done;
    parallel::DeviceEvent reported;                ///< the decision is there
    const parallel::DeviceEvent* since = nullptr;  ///< where this step's time begins
    double data_wait_s = 0;                        ///< of the host
    double lr = 0;
  };

  struct CapturedPart {
    std::int64_t runs = 0;
    std::optional<parallel::DeviceGraph> graph;
  };

  void fill_scalars(std::int64_t step, StopWish wish, Flight& flight);
  void feed(std::int64_t micro, dataio::Loader& loader, Flight& flight);
  void report(Flight& flight);
  void enqueue(std::int64_t micro, Flight& flight);
  [[nodiscard]] Part part_of(std::int64_t micro) const;

  // What is captured.
  void run_part(Part part, const Mark& mark);
  void begin_step();
  void reduce(parallel::Work& agreement, const Mark& mark);
  void update(const Mark& mark);

  [[nodiscard]] StepResult read(const Flight& flight) const;

  Replica& replica_;
  StepPlan plan_;
  parallel::BucketGroups groups_;
  parallel::Communicator& communicator_;  ///< all ranks
  optim::AdamW optimizer_;
  parallel::GradientReducer reducer_;
  parallel::BucketGather gather_;  ///< of what forward reads (ZeRO-1)
  at::Tensor blocks_;              ///< of the arena: how each is updated (block_updates)
  NormSums norm_sums_;
  GatheredEarly early_;  ///< beside the update of the rest
  UpdateOrder updates_;
  SampleForm form_;

  MicroInput input_;                              ///< what the work reads, on the device like all below
  at::Tensor arrived_;                            ///< the next one's bytes, which come beside the work before
  const parallel::DeviceEvent* taken_ = nullptr;  ///< where arrived_ was read last
  at::Tensor agreed_;
  at::Tensor decision_;
  at::Tensor tokens_BT_;
  at::Tensor targets_BT_;
  at::Tensor held_t_;  ///< positions of the sequence that this rank computes; undefined: all
  // Of a model that draws by sample; undefined otherwise.
  at::Tensor row_numbers_;  ///< 0, 1, ...
  at::Tensor samples_B_;
  at::Tensor gradient_scale_;  ///< 1 / tokens of the global batch
  bool reducing_ = false;
  bool gathering_ = false;

  parallel::SideStream clearing_;     ///< of gradients
  parallel::SideStream feeding_;      ///< of inputs' way to the device
  parallel::SideStream reporting_;    ///< of decisions' way back
  parallel::SideStream reading_;      ///< of copies of the state
  parallel::DeviceEvent state_read_;  ///< their end: an update comes after it

  std::array<CapturedPart, kParts> parts_;
  std::array<Flight, 3>
      flights_;  ///< the step that is read, one that runs, and the one before both, whose end is read
  std::deque<std::int64_t> unfinished_;
};

}  // namespace sluice::train
