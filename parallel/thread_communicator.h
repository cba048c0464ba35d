#pragma once

#include <cstdint>
#include <functional>

#include "parallel/communicator.h"

namespace sluice::parallel {

enum class PeerMemory { kNone, kExchangeBuffers };

/// Runs `body` on `ranks` threads, each with its communicator of one in-process group: multi-rank logic in
/// one plain test program. Rethrows the exception of the lowest rank that threw; ranks waiting for a rank
/// that threw are woken and throw.
/// `reach`: whether they have peer memory.
void run_thread_ranks(std::int64_t ranks, const std::function<void(Communicator&)>& body,
                      PeerMemory reach = PeerMemory::kNone);

}  // namespace sluice::parallel
