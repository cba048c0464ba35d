#pragma once

#include <cstdint>
#include <functional>

#include "parallel/communicator.h"

namespace sluice::parallel {

/// How ranks reach one another: as those that have neither, or has_peer_memory(), or has_host_memory().
enum class Reach { kNeither, kPeerMemory, kHostMemory };

/// Runs `body` on `ranks` threads, each with its communicator of one in-process group: multi-rank logic in
/// one plain test program. Rethrows the exception of the lowest rank that threw; ranks waiting for a rank
/// that threw are woken and throw.
void run_thread_ranks(std::int64_t ranks, const std::function<void(Communicator&)>& body,
                      Reach reach = Reach::kNeither);

}  // namespace sluice::parallel
