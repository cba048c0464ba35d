#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "dataio/loader.h"
#include "dataio/order.h"
#include "parallel/communicator.h"
#include "parallel/gradient_reducer.h"
#include "trainer/optim/adamw.h"
#include "trainer/optim/options.h"
#include "trainer/train/masking.h"
#include "trainer/train/options.h"
#include "trainer/train/replica.h"

namespace sluice::train {

enum class Graphs { kOn, kOff };  ///< whether a GPU's step is captured

/// kState: each rank holds the optimizer's state of its slices of the arena alone, and updates those
/// (ZeRO-1).
enum class Sharding { kNone, kState };

[[nodiscard]] Sharding sharding_of(const RunOptions& options);
/// Replica's `owner` for a run on `placement`: parameters that the model rounds are sharded with their state.
[[nodiscard]] std::optional<std::int64_t> parameter_owner(Sharding sharding, const Placement& placement,
                                                          std::int64_t rank);

/// What does not change from step to step.
struct StepPlan {
  dataio::Slicing slicing;
  std::optional<SampleForm> samples{};  ///< of the loader's rows; none: causal_form
  optim::OptimOptions optim;
  std::int64_t total_steps = 0;
  Graphs graphs = Graphs::kOn;
  Sharding sharding = Sharding::kNone;
  at::ScalarType reduce_dtype = at::kFloat;  ///< of gradients on their way between ranks
  parallel::ReducerProgress progress = parallel::ReducerProgress::kThread;
};

/// From the settings of a run.
[[nodiscard]] StepPlan step_plan(const RunOptions& options, const dataio::Slicing& slicing);

enum class StopWish { kGoOn, kStop };

/// One step as this rank saw it. Seconds are wall time; loss, norm and wish are agreed by all ranks.
struct StepResult {
  double loss = 0;  ///< nats per predicted token, mean over the global batch, before the update
  double lr = 0;
  double grad_norm = 0;  ///< before clipping
  double data_wait_s = 0;
  double forward_s = 0;
  double backward_s = 0;
  double comm_exposed_s = 0;  ///< communication that backward did not hide
  double optimizer_s = 0;     ///< norm, clip, update
  double step_s = 0;
  StopWish stop = StopWish::kGoOn;  ///< kStop if any rank wished it
  bool skipped = false;             ///< loss or gradient was not finite on some rank: nobody updated anything
};

/// What no cause above accounts for; with them it sums to step_s.
[[nodiscard]] inline double other_s(const StepResult& r) {
  return r.step_s - r.data_wait_s - r.forward_s - r.backward_s - r.comm_exposed_s - r.optimizer_s;
}

/// The training step of one data-parallel rank: forward and backward of its micro-batches, reduction of the
/// gradients over ranks while the last backward runs, clip, AdamW. The loss is the sum over all ranks divided
/// by the number of targets of the global batch. Steps are begun and finished apart, so that a device need
/// never wait for the host: lag() steps may be in flight while another one is begun.
class TrainStep {
 public:
  virtual ~TrainStep() = default;
  TrainStep(const TrainStep&) = delete;
  TrainStep& operator=(const TrainStep&) = delete;

  /// Begins step `step` (0-based) on the loader's next micro-batches, which must be that step's. Collective.
  /// `wish` is asked once.
  virtual void begin(std::int64_t step, dataio::Loader& loader, const std::function<StopWish()>& wish) = 0;
  /// Waits for the oldest step that was begun and not finished.
  virtual StepResult finish() = 0;
  /// Collective, with no step unfinished: brings all that the replica computes with up to date on every rank,
  /// as evaluation needs it, and the first step.
  virtual void settle() = 0;
  /// Collective, with no step unfinished. `copy` copies parameters and moments elsewhere. On a GPU, where it
  /// only enqueues, that may go on beside the next step, whose update waits for it. What is returned waits
  /// until the copy is whole: for any thread, as long as the step lives.
  [[nodiscard]] virtual std::function<void()> read_state(const std::function<void()>& copy) = 0;
  /// How many unfinished steps there may be when one is begun.
  [[nodiscard]] virtual std::int64_t lag() const = 0;
  /// The moments belong to the step as long as any is unfinished, as do the replica's parameters.
  [[nodiscard]] virtual const optim::AdamW& optimizer() const = 0;

 protected:
  TrainStep() = default;
};

/// begin() and finish().
[[nodiscard]] StepResult run_step(TrainStep& train_step, std::int64_t step, dataio::Loader& loader,
                                  const std::function<StopWish()>& wish);

/// What this rank updates: the whole arena, or its slices.
[[nodiscard]] std::vector<optim::Range> owned_ranges(const parallel::ArenaLayout& layout, Sharding sharding,
                                                     std::int64_t rank);

/// Whose squares a rank sums for the norm. kOfOwnSlices: others have gradients that this rank has not, and
/// ranks exchange their sums.
enum class SquareSums { kOfAllSlices, kOfOwnSlices };
[[nodiscard]] SquareSums square_sums(const parallel::ArenaLayout& layout, Sharding sharding);
/// Every slice of the arena in its order; empty where another rank sums its squares.
[[nodiscard]] std::vector<optim::Range> slices_to_sum(const parallel::ArenaLayout& layout, SquareSums sums,
                                                      std::int64_t rank);
/// How a step with this plan exchanges gradients.
[[nodiscard]] parallel::ReducerOptions reducer_options(const StepPlan& plan, parallel::LastBucket last);

/// The step for the replica's device. `replica` and the ranks of `groups` outlive it; one step at a time for
/// a replica.
[[nodiscard]] std::unique_ptr<TrainStep> make_train_step(Replica& replica, const StepPlan& plan,
                                                         parallel::BucketGroups groups);

}  // namespace sluice::train
