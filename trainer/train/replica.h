#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "parallel/arena.h"
#include "trainer/model/language_model.h"
#include "trainer/model/parameters.h"
#include "trainer/optim/adamw.h"
#include "trainer/train/checkpoint.h"
#include "trainer/train/placement.h"
#include "trainer/train/state_layout.h"

namespace sluice::train {

enum class ReplicaUse { kTraining, kInference };

/// One rank's copy of a model: its parameters in a flat arena, for training their gradients in a second one,
/// and the model that computes over views of the first, or of a third that holds the parameters rounded to
/// the type in which it computes. Of parameters that are rounded a replica may hold one rank's slices alone
/// in full precision (ZeRO-1): those that this rank updates.
class Replica {
 public:
  /// Elements from which on a matrix's gradient is not cleared but written over.
  static constexpr std::int64_t kLargeMatrix = 1 << 19;

  /// All parameters are zero until somebody writes to them. `buckets`: how the arena is cut for exchange;
  /// inference needs none, and recomputes nothing. `owner`: the rank whose slices alone are held in full
  /// precision; none: all are. `sequence`: with whom this rank shares the sequences it trains
  /// (model::make_model), and so whose rows of what they deal (model::held_rows) it holds alone; outlives it.
  Replica(const model::ModelOptions& options, std::int64_t vocabulary_size, const Placement& placement,
          ReplicaUse use, const parallel::BucketPlan& buckets = {},
          model::Recompute recompute = model::Recompute::kNone, std::optional<std::int64_t> owner = {},
          const kernels::SequenceExchange* sequence = nullptr);

  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;

  /// Initial values into `whole`, a flat buffer of the logical layout: a pure function of (parameter names,
  /// seed).
  void draw(std::uint64_t seed, const at::Tensor& whole) const;
  /// draw() into parameters(), of a replica that has all of its arena.
  void initialise(std::uint64_t seed);
  /// Brings what the model computes with up to date with parameters(), after somebody else wrote to them; of
  /// slices held alone, those slices.
  void round_parameters();

  [[nodiscard]] const model::LanguageModel& model() const { return *model_; }
  [[nodiscard]] const model::ModelOptions& options() const { return options_; }
  [[nodiscard]] std::int64_t vocabulary_size() const { return vocabulary_size_; }
  /// Of this rank's arena, and of what all ranks hold together.
  [[nodiscard]] const parallel::ArenaLayout& layout() const { return state_layout_.held(); }
  [[nodiscard]] const StateLayout& state_layout() const { return state_layout_; }
  /// Flat, in full precision: all, or the owner's slices one after another (ArenaLayout::owned()).
  [[nodiscard]] const at::Tensor& parameters() const { return parameters_; }
  /// Flat, bfloat16: what the model computes with; undefined where that is parameters() itself.
  [[nodiscard]] const at::Tensor& rounded() const { return rounded_; }
  /// What the model computes with: rounded() or parameters().
  [[nodiscard]] const at::Tensor& computed_with() const {
    return rounded_.defined() ? rounded_ : parameters_;
  }
  /// The most exact parameters that are held whole: parameters(), or rounded() where an owner has those.
  [[nodiscard]] const at::Tensor& whole_parameters() const { return owner_ ? rounded_ : parameters_; }
  [[nodiscard]] std::optional<std::int64_t> owner() const { return owner_; }
  [[nodiscard]] const at::Tensor& gradients() const { return gradients_; }  ///< flat; undefined for inference
  /// Before a step's first backward, in place of zeroing gradients(). Those of large matrices that are
  /// rounded hold anything until then (kernels::forget_gradient): their products can write as well as add, so
  /// that neither a pass that zeroes nor the product reads or writes them once more.
  void clear_gradients();
  [[nodiscard]] std::int64_t parameter_count() const;  ///< of all ranks together
  /// Slices of whole kernels::kDecayBlock elements that nothing reads (above the diagonal of a causal W):
  /// their parameters stay as they are. Blocks are counted in whole matrices, so that ranks that hold rows of
  /// them leave the same elements; in the arena such a slice may begin anywhere.
  [[nodiscard]] std::vector<optim::Range> idle_ranges() const;
  /// The elements of the arena that nothing reads and idle_ranges() leave out, since they share a block with
  /// others: they are updated, and their gradients are zero.
  [[nodiscard]] std::vector<std::int64_t> unread_in_read_blocks() const;
  /// The slices of the arena that take weight decay; none of them is idle.
  [[nodiscard]] std::vector<optim::DecayRange> decayed_ranges() const;
  /// Calls `ready(entry)` each time a backward has finished entry's gradient. Training only.
  void on_gradient_ready(const std::function<void(std::int64_t entry)>& ready);
  /// Calls `before_use(entry)` before a forward uses entries up to that one.
  void on_parameter_use(std::function<void(std::int64_t entry)> before_use);
  [[nodiscard]] const kernels::SequenceExchange* sequence() const { return sequence_; }

 private:
  void part_gradients(bool others_write);
  /// For each row of a matrix the elements that nothing reads, and the whole blocks among them.
  void for_each_unread_run(const std::function<void(optim::Range all, optim::Range blocks)>& visit) const;

  model::ModelOptions options_;
  std::int64_t vocabulary_size_;
  std::vector<model::ParameterSpec> specs_;  ///< logical ones
  std::optional<model::HeldRows> held_;
  StateLayout state_layout_;
  std::optional<std::int64_t> owner_;
  at::Tensor parameters_;
  at::Tensor rounded_;
  at::Tensor gradients_;
  std::vector<at::Tensor> leaves_;
  std::vector<at::Tensor> large_;    ///< leaves whose gradients clear_gradients() leaves
  std::vector<at::Tensor> cleared_;  ///< of gradients_: all between those
  at::Tensor kept_zero_;             ///< unread_in_read_blocks(), where others write to what is not cleared
  const kernels::SequenceExchange* sequence_;
  std::unique_ptr<model::LanguageModel> model_;
};

/// train.recompute.
[[nodiscard]] model::Recompute recompute_of(const TrainOptions& options);

/// The model of a checkpoint, its weights converted. Throws InputError.
[[nodiscard]] std::unique_ptr<Replica> load_replica(const CheckpointInfo& info, const Placement& placement,
                                                    ReplicaUse use = ReplicaUse::kInference);

}  // namespace sluice::train
