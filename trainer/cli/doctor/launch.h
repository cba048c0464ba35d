#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "parallel/communicator.h"
#include "trainer/cli/doctor/finding.h"

namespace sluice::cli::doctor {

using Environment = std::map<std::string, std::string>;

/// Of this process as it was started: MPI_Init adds to getenv()'s, but not to this. Empty where the system
/// does not tell.
[[nodiscard]] Environment started_environment();

/// What a launcher told one of the processes that it started.
struct Launch {
  std::int64_t ranks = 0;  ///< how many it started; 0: it did not say, or there was none
  std::int64_t rank = 0;   ///< which of them this one is
  std::string said_by{};   ///< "OMPI_COMM_WORLD_SIZE=2"
  bool by_srun = false;
  bool pmix = false;          ///< a PMIx server was announced, by which MPI finds the others
  std::int64_t allotted = 0;  ///< tasks of the Slurm job around it, where no launcher said more
};

/// From variables of Open MPI's mpirun, of PMI (MPICH's mpiexec, srun --mpi=pmi2), and of srun, in this
/// order: ranks of an mpirun within a job have srun's variables too, of the task that started them.
[[nodiscard]] Launch read_launch(const Environment& environment);

/// Whether the launcher's job is MPI's world. A fault where MPI sees fewer ranks: each process would be a job
/// of its own. `mpi`: the library's name and version.
[[nodiscard]] Finding judge_launch(const Launch& launch, std::int64_t world_size, const std::string& mpi);

/// The same before training: the reason not to start. Only one of the processes is to tell it: `rank` 0.
struct LaunchFault {
  std::int64_t rank = 0;
  std::string reason{};
};
[[nodiscard]] std::optional<LaunchFault> launch_fault(const parallel::Communicator& world);

/// "Open MPI v4.1.4" of the library in this process.
[[nodiscard]] std::string mpi_name();

}  // namespace sluice::cli::doctor
