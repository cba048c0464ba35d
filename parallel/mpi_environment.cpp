#include "parallel/mpi_environment.h"

#include <c10/util/Exception.h>

#include <array>
#include <exception>
#include <utility>

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

MpiEnvironment::MpiEnvironment(int* argc, char*** argv) : exceptions_at_start_(std::uncaught_exceptions()) {
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
