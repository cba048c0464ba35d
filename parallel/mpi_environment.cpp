#include "parallel/mpi_environment.h"

#include <c10/util/Exception.h>

#include <array>
#include <cstdlib>
#include <exception>
#include <utility>
#include <vector>

#include "parallel/mpi_internal.h"

namespace sluice::parallel {

MpiError::MpiError(std::string call, std::string code_text, std::int64_t rank)
    : std::runtime_error("rank " + std::to_string(rank) + ": " + call + " failed: " + code_text),
      call_(std::move(call)),
      code_text_(std::move(code_text)),
      rank_(rank) {}

void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  int rank = -1;
  int ready = 0;
  MPI_Initialized(&ready);
  if (ready) MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  throw MpiError(call, std::string(text.data(), static_cast<std::size_t>(length)), rank);
}

namespace {

bool started_by_a_launcher() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_FD", "SLURM_STEP_NUM_TASKS"})
    if (std::getenv(name) != nullptr) return true;
  return false;
}

// What Open MPI is told while it starts. A process by itself would get a daemon beside it and look for every
// network: half of the time that a short command takes. It would also make a directory that all such
// processes share, and fail where another one that ends removes it meanwhile. Taken back afterwards: what
// this process starts (a study's mpirun) chooses for itself.
class StartSettings {
 public:
  StartSettings() {
    if (started_by_a_launcher()) return;
    for (const auto& [name, value] :
         {Setting{"OMPI_MCA_ess_singleton_isolated", "1"}, Setting{"OMPI_MCA_orte_create_session_dirs", "0"},
          Setting{"OMPI_MCA_pml", "ob1"}}) {
      if (std::getenv(name) != nullptr) continue;
      ::setenv(name, value, 1);
      set_.push_back(name);
    }
  }
  ~StartSettings() {
    for (const char* name : set_) ::unsetenv(name);
  }
  StartSettings(const StartSettings&) = delete;
  StartSettings& operator=(const StartSettings&) = delete;

 private:
  struct Setting {
    const char* name;
    const char* value;
  };
  std::vector<const char*> set_;
};

}  // namespace

MpiEnvironment::MpiEnvironment(int* argc, char*** argv) : exceptions_at_start_(std::uncaught_exceptions()) {
  const StartSettings settings;
  int provided = MPI_THREAD_SINGLE;
  check_mpi(MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  if (provided < MPI_THREAD_SERIALIZED)
    throw MpiError("MPI_Init_thread", "the library was built without MPI_THREAD_SERIALIZED", -1);
}

MpiEnvironment::~MpiEnvironment() {
  if (std::uncaught_exceptions() > exceptions_at_start_) return;
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (!finalized) MPI_Finalize();
}

std::unique_ptr<Communicator> MpiEnvironment::world(MpiOptions options) const {
  TORCH_CHECK(options.message_bytes >= 1 && options.message_bytes <= 2147483647,
              "message_bytes: allowed are 1 to 2147483647, got ", options.message_bytes);
  MPI_Comm duplicate = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &duplicate), "MPI_Comm_dup");
  return make_mpi_communicator(duplicate, options);
}

std::string mpi_library_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  check_mpi(MPI_Get_library_version(text.data(), &length), "MPI_Get_library_version");
  return {text.data(), static_cast<std::size_t>(length)};
}

}  // namespace sluice::parallel
