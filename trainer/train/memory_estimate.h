#pragma once

#include <cstdint>
#include <optional>

#include "parallel/arena.h"
#include "trainer/kernels/recompute.h"
#include "trainer/kernels/sequence_exchange.h"
#include "trainer/model/options.h"
#include "trainer/train/options.h"
#include "trainer/train/placement.h"
#include "trainer/train/step.h"

namespace sluice::train {

/// How ranks share sequences.
struct SequencePlan {
  kernels::SequenceRows rows;
  kernels::ExchangeMode mode = kernels::ExchangeMode::kAllToAll;
};
/// parallel.sp and parallel.sp_mode; none where sequences are whole. Throws c10::Error for fewer positions
/// than ranks.
[[nodiscard]] std::optional<SequencePlan> sequence_plan(const RunOptions& options);

struct MemoryPlan {
  Placement placement;
  std::int64_t batch = 1;  ///< sequences at once on a rank
  kernels::Recompute recompute = kernels::Recompute::kNone;
  Sharding sharding = Sharding::kNone;
  parallel::BucketPlan buckets = {};                    ///< world: ranks; sequence_ranks: those of a row
  std::optional<SequencePlan> sequence = std::nullopt;  ///< none: sequences are whole
};

/// Bytes that training takes on rank 0's device, activations on that of the rank that holds the most
/// positions. The first three are what Replica and AdamW allocate, exactly
/// where `buckets` are those of the run; the others are model::count_activations' estimate.
struct MemoryEstimate {
  std::int64_t parameters = 0;  ///< in full precision and, where those are others, as the model computes
  std::int64_t gradients = 0;
  std::int64_t optimizer = 0;  ///< both moments
  std::int64_t kept = 0;       ///< activations that wait for backward
  std::int64_t passing = 0;    ///< the most that comes and goes beside them

  [[nodiscard]] std::int64_t total() const { return parameters + gradients + optimizer + kept + passing; }
};

[[nodiscard]] MemoryEstimate estimate_memory(const model::ModelOptions& options, std::int64_t vocabulary_size,
                                             const MemoryPlan& plan);

}  // namespace sluice::train
