#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "parallel/arena.h"
#include "trainer/model/language_model.h"
#include "trainer/model/parameters.h"
#include "trainer/optim/adamw.h"
#include "trainer/train/checkpoint.h"

namespace sluice::train {

enum class ReplicaUse { kTraining, kInference };

/// One rank's copy of a model: its parameters in a flat arena, for training their gradients in a second one,
/// and the model that computes over views of the first. On the CPU.
class Replica {
 public:
  /// All parameters are zero until initialise() or load_checkpoint(). `dtype`: float32 or float64.
  Replica(const model::ModelOptions& options, std::int64_t vocabulary_size, at::ScalarType dtype,
          ReplicaUse use);

  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;

  /// Initial values, a pure function of (parameter names, seed).
  void initialise(std::uint64_t seed);

  [[nodiscard]] const model::LanguageModel& model() const { return *model_; }
  [[nodiscard]] const model::ModelOptions& options() const { return options_; }
  [[nodiscard]] std::int64_t vocabulary_size() const { return vocabulary_size_; }
  [[nodiscard]] const parallel::ArenaLayout& layout() const { return layout_; }
  [[nodiscard]] const at::Tensor& parameters() const { return parameters_; }  ///< flat
  [[nodiscard]] const at::Tensor& gradients() const { return gradients_; }  ///< flat; undefined for inference
  [[nodiscard]] std::int64_t parameter_count() const;
  /// The slices of the arena that take weight decay.
  [[nodiscard]] std::vector<optim::DecayRange> decayed_ranges() const;
  /// Calls `ready(entry)` each time a backward has finished entry's gradient. Training only.
  void on_gradient_ready(const std::function<void(std::int64_t entry)>& ready);

 private:
  model::ModelOptions options_;
  std::int64_t vocabulary_size_;
  std::vector<model::ParameterSpec> specs_;
  parallel::ArenaLayout layout_;
  at::Tensor parameters_;
  at::Tensor gradients_;
  std::vector<at::Tensor> leaves_;
  std::unique_ptr<model::LanguageModel> model_;
};

/// The model of a checkpoint, its weights converted to `dtype`, for inference. Throws InputError.
[[nodiscard]] std::unique_ptr<Replica> load_replica(const CheckpointInfo& info, at::ScalarType dtype);

}  // namespace sluice::train
