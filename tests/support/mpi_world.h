#pragma once

#include "parallel/communicator.h"
#include "parallel/mpi_environment.h"

namespace sluice::tests {

/// The ranks of a test started by add_mpi_test.
parallel::Communicator& mpi_world();
parallel::MpiEnvironment& mpi_environment();

}  // namespace sluice::tests
