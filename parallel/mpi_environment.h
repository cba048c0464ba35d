#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#include "parallel/communicator.h"

namespace sluice::parallel {

/// A call of the MPI library failed on this rank.
class MpiError : public std::runtime_error {
 public:
  MpiError(std::string call, std::string code_text, std::int64_t rank);

  [[nodiscard]] const std::string& call() const { return call_; }
  [[nodiscard]] const std::string& code_text() const { return code_text_; }
  [[nodiscard]] std::int64_t rank() const { return rank_; }  ///< in MPI_COMM_WORLD

 private:
  std::string call_;
  std::string code_text_;
  std::int64_t rank_;
};

struct MpiOptions {
  /// The longest single message: MPI counts are int. A test takes a tiny one.
  std::int64_t message_bytes = std::int64_t{1} << 30;
};

/// MPI_Init and MPI_Finalize as one object of main(). Finalizes only when no exception is in flight: a rank
/// that fails would wait for ever for the others in MPI_Finalize (a main() that catches a fault while this
/// object lives must end by Communicator::abort). When the process was not started by a launcher, MPI runs as
/// a group of one.
class MpiEnvironment {
 public:
  /// Takes MPI_THREAD_SERIALIZED: backward hooks may run on another thread than main's. Throws MpiError.
  MpiEnvironment(int* argc, char*** argv);
  ~MpiEnvironment();
  MpiEnvironment(const MpiEnvironment&) = delete;
  MpiEnvironment& operator=(const MpiEnvironment&) = delete;

  /// All ranks of the job, over a duplicate of MPI_COMM_WORLD. Collective; must not outlive this object.
  [[nodiscard]] std::unique_ptr<Communicator> world(MpiOptions options = {}) const;

 private:
  int exceptions_at_start_;
};

/// "Open MPI v4.1.4, ..." as the library names itself at run time.
[[nodiscard]] std::string mpi_library_version();

}  // namespace sluice::parallel
