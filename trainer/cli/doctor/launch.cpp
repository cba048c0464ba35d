#include "trainer/cli/doctor/launch.h"

#include <fmt/format.h>

#include <charconv>
#include <fstream>

#include "parallel/mpi_environment.h"

namespace sluice::cli::doctor {
namespace {

/// Of a variable that holds a whole number; 0 where it does not.
std::int64_t number(const Environment& environment, const std::string& name) {
  const auto found = environment.find(name);
  std::int64_t value = 0;
  if (found != environment.end())
    std::from_chars(found->second.data(), found->second.data() + found->second.size(), value);
  return value;
}

struct Source {
  const char* size;
  const char* rank;
};

// SLURM_STEP_NUM_TASKS is srun's alone: a batch script has SLURM_NTASKS too, and is one process.
constexpr Source kSources[] = {{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"},
                               {"PMI_SIZE", "PMI_RANK"},
                               {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"}};

std::string fix_for(const Launch& launch, const std::string& mpi) {
  if (!launch.by_srun)
    return fmt::format(
        "use the mpirun that belongs to the MPI of this program ({}; ldd shows its path): the one "
        "that was used is another's. MPIRUN names one to launch/mpirun.sh",
        mpi);
  if (launch.pmix)
    return fmt::format(
        "this program's MPI ({}) does not understand the site's PMIx: build with the site's MPI, or "
        "launch/mpirun.sh within the job",
        mpi);
  return "srun --mpi=pmix (srun --mpi=list shows what the site has), or launch/mpirun.sh within the job; for "
         "independent runs start each by env -u SLURM_STEP_NUM_TASKS";
}

}  // namespace

Environment started_environment() {
  Environment environment;
  std::ifstream in("/proc/self/environ", std::ios::binary);
  for (std::string entry; std::getline(in, entry, '\0');) {
    const std::size_t equals = entry.find('=');
    if (equals != std::string::npos) environment[entry.substr(0, equals)] = entry.substr(equals + 1);
  }
  return environment;
}

Launch read_launch(const Environment& environment) {
  Launch launch;
  for (const Source& source : kSources) {
    launch.ranks = number(environment, source.size);
    if (launch.ranks == 0) continue;
    launch.rank = number(environment, source.rank);
    launch.said_by = fmt::format("{}={}", source.size, launch.ranks);
    break;
  }
  launch.by_srun = launch.said_by.starts_with("SLURM_");
  launch.pmix = environment.contains("PMIX_NAMESPACE") || environment.contains("PMIX_RANK");
  if (launch.pmix && launch.ranks == 0 && number(environment, "PMIX_RANK") > 0) {
    launch.rank = number(environment, "PMIX_RANK");
    launch.ranks = launch.rank + 1;  // at least
    launch.said_by = fmt::format("PMIX_RANK={}", launch.rank);
  }
  if (launch.ranks == 0) launch.allotted = number(environment, "SLURM_NTASKS");
  return launch;
}

Finding judge_launch(const Launch& launch, std::int64_t world_size, const std::string& mpi) {
  Finding finding{.what = "launch"};
  if (launch.ranks > world_size) {
    finding.severity = Severity::kFault;
    finding.value = fmt::format(
        "{} processes were started ({}), but MPI sees {} of them: each would be a run of its "
        "own, all writing to one place",
        launch.ranks, launch.said_by, world_size);
    finding.fix = fix_for(launch, mpi);
  } else if (launch.allotted > world_size) {
    finding.severity = Severity::kWarning;
    finding.value = fmt::format("one process, in a job of {} tasks (SLURM_NTASKS)", launch.allotted);
    finding.fix =
        "for all of them: srun --mpi=pmix sluice ..., or launch/mpirun.sh -- sluice ... within the job";
  } else {
    finding.value = fmt::format("{} rank{}, {}", world_size, world_size == 1 ? "" : "s",
                                launch.ranks == 0 ? "without a launcher" : launch.said_by);
  }
  return finding;
}

std::optional<LaunchFault> launch_fault(const parallel::Communicator& world) {
  if (world.name() != "mpi") return std::nullopt;
  const Launch launch = read_launch(started_environment());
  const Finding finding = judge_launch(launch, world.size(), mpi_name());
  if (finding.severity != Severity::kFault) return std::nullopt;
  return LaunchFault{.rank = launch.rank, .reason = finding.value + "; " + finding.fix};
}

std::string mpi_name() {
  const std::string version = parallel::mpi_library_version();
  return version.substr(0, version.find_first_of(",\n"));
}

}  // namespace sluice::cli::doctor
