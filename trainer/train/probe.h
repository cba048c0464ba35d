#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "dataio/corpus.h"
#include "trainer/train/masking.h"
#include "trainer/train/replica.h"
#include "trainer/train/safetensors.h"

// What a model makes of one given batch, so that other programs can compute the same and compare.

namespace sluice::train {

/// Rows of tokens side by side in a split; R rows of T positions, int64, CPU.
struct ProbeBatch {
  at::Tensor tokens_RT;
  at::Tensor targets_RT;       ///< model::kIgnore where nothing is predicted
  std::int64_t predicted = 0;  ///< targets that are not kIgnore
};

/// Tokens begin ... end - 1 of the reader's split as the inputs of one row, or of rows of `seq_len` where
/// they are a multiple of it. Targets are the tokens after each, of which the split's last has none; with
/// `masking` the hidden ones, as evaluation hides them in windows that begin where the rows do. Throws
/// InputError for a range that is empty, beyond the split, of another length, or with nothing to predict;
/// DataError.
[[nodiscard]] ProbeBatch read_probe_batch(dataio::SplitReader& reader, std::int64_t begin, std::int64_t end,
                                          std::int64_t seq_len, Objective objective,
                                          const std::optional<Masking>& masking);

/// Tensors on the CPU in the type of the replica's parameters.
struct Probe {
  at::Tensor logits_RTV;
  at::Tensor loss;                     ///< [1]: nats per predicted token
  std::vector<NamedTensor> gradients;  ///< of the loss, by parameter; none of a replica for inference
};

[[nodiscard]] Probe probe(const Replica& replica, const ProbeBatch& batch);

}  // namespace sluice::train
