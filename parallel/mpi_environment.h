#pragma once

#include <memory>

#include "parallel/communicator.h"

namespace sluice::parallel {

/// MPI_Init and MPI_Finalize as one object of main(). Finalizes only when no exception is in flight: a rank that fails would
/// wait for ever for the others in MPI_Finalize. When the process was not started by a launcher, MPI runs as a group of one.
class MpiEnvironment {
 public:
  MpiEnvironment(int* argc, char*** argv);
  ~MpiEnvironment();
  MpiEnvironment(const MpiEnvironment&) = delete;
  MpiEnvironment& operator=(const MpiEnvironment&) = delete;

  /// All ranks of the job, over a duplicate of MPI_COMM_WORLD.
  [[nodiscard]] std::unique_ptr<Communicator> world() const;
};

/// "Open MPI v4.1.4, ..." as the library names itself at run time.
[[nodiscard]] std::string mpi_library_version();

}  // namespace sluice::parallel
