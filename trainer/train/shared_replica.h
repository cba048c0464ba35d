#pragma once

#include <memory>

#include "parallel/communicator.h"
#include "trainer/train/checkpoint.h"
#include "trainer/train/placement.h"
#include "trainer/train/replica.h"
#include "trainer/train/sequence_ranks.h"

namespace sluice::train {

/// load_replica() on ranks that share sequences: each holds what it does in training. Rank 0 reads the
/// checkpoint and has all of it for a moment, in the host's memory. Collective; `sequence` outlives the
/// replica, `exchange` takes tensors of the placement's device. Throws InputError on rank 0,
/// parallel::PeerError elsewhere.
[[nodiscard]] std::unique_ptr<Replica> load_shared_replica(const CheckpointInfo& info,
                                                           const Placement& placement,
                                                           const SequenceRanks& sequence,
                                                           parallel::Communicator& exchange);

}  // namespace sluice::train
