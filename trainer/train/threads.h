#pragma once

#include <cstdint>

#include "parallel/communicator.h"

namespace sluice::train {

/// Compute threads that this rank may use so that all ranks of its machine together use each core once: the
/// cores of its affinity mask, each divided by the number of ranks that share it; at least 1. Collective.
[[nodiscard]] std::int64_t fair_threads(parallel::Communicator& communicator);

/// `requested`, or fair_threads() for 0, set as LibTorch's number of threads in this process. Collective.
/// Returns it.
std::int64_t set_compute_threads(std::int64_t requested, parallel::Communicator& communicator);

}  // namespace sluice::train
