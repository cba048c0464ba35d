#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <optional>

#include "trainer/kernels/recompute.h"
#include "trainer/kernels/sequence_exchange.h"
#include "trainer/model/options.h"

namespace sluice::model {

/// What a rank has of sequences that it shares.
struct SequenceShare {
  std::int64_t ranks = 1;
  std::int64_t positions = 0;  ///< of each sequence, that it holds
  kernels::ExchangeMode mode = kernels::ExchangeMode::kAllToAll;
};

/// How a micro-batch runs, as far as it decides which tensors are there.
struct ActivationPlan {
  std::int64_t batch = 1;  ///< sequences at once
  bool on_gpu = false;
  at::ScalarType compute = at::kFloat;  ///< of products and activations
  kernels::Recompute recompute = kernels::Recompute::kNone;
  at::ScalarType residual = at::kFloat;  ///< of the residual stream where compute is bfloat16
  std::optional<SequenceShare> share{};  ///< none: sequences are whole
};

/// Bytes of one training micro-batch's tensors, parameters and their gradients left aside.
struct ActivationBytes {
  std::int64_t kept = 0;  ///< what forward keeps for backward
  std::int64_t of_loss =
      0;  ///< the loss's gradients by its input and the head, which forward computes with it
  /// The most that is there at once beside what is kept: the loss with a chunk of logits, or a block's
  /// backward with what it computes again, and what it exchanges with ranks that share sequences.
  std::int64_t passing = 0;
};

/// Whether the model's blocks run as fused blocks (trainer/kernels/fused_block.h) when they train; CPU ranks
/// as on this processor.
[[nodiscard]] bool runs_fused(const ModelOptions& options, bool on_gpu, at::ScalarType compute);

/// Counted from what the operators of the blocks save (trainer/kernels); an estimate: masks, tokens, biases,
/// workspaces of libraries, an allocator's rounding, and temporaries within one operator are left out.
[[nodiscard]] ActivationBytes count_activations(const ModelOptions& options, std::int64_t vocabulary_size,
                                                const ActivationPlan& plan);

}  // namespace sluice::model
