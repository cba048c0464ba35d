#pragma once

#include "parallel/communicator.h"

namespace sluice::tests {

/// The ranks of a test started by add_gpu_mpi_test, each with its GPU. Made on first use, by all ranks.
parallel::Communicator& gpu_world();
at::Device gpu_of_rank();

}  // namespace sluice::tests
