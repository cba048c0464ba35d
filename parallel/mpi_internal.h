#pragma once

// The only file that includes <mpi.h>; included by the mpi_*.cpp files of this folder and nothing else.
// The C interface alone: Open MPI's and MPICH's C++ one, gone from the standard, would need another library.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/mpi_environment.h"

namespace sluice::parallel {

/// Throws MpiError when `code` says that `call` failed.
void check_mpi(int code, const char* call);

/// Takes `communicator` over: returns errors instead of ending the job, and frees it at the end. Collective.
[[nodiscard]] std::unique_ptr<Communicator> make_mpi_communicator(MPI_Comm communicator, MpiOptions options);

/// Point-to-point messages in flight. A message longer than `message_bytes` travels in parts, in order, under
/// one tag.
class MpiMessages {
 public:
  MpiMessages(MPI_Comm communicator, std::int64_t message_bytes)
      : communicator_(communicator), message_bytes_(message_bytes) {}

  void send(const void* data, std::int64_t bytes, std::int64_t to, int tag);
  void receive(void* data, std::int64_t bytes, std::int64_t from, int tag);
  /// A request of a collective operation, waited for like the others.
  void add(MPI_Request request) { requests_.push_back(request); }
  /// Makes progress; true when nothing is in flight any more.
  bool test();

 private:
  MPI_Comm communicator_;
  std::int64_t message_bytes_;
  std::vector<MPI_Request> requests_;
};

/// An operation that advances whenever the communicator makes progress.
class MpiOperation {
 public:
  virtual ~MpiOperation() = default;
  /// True when done; not called again then.
  virtual bool advance() = 0;
};

/// What an operation on tensors needs of its communicator.
struct MpiPlace {
  std::int64_t rank = 0;
  std::int64_t size = 1;
  MpiMessages messages;
  int tag = 0;  ///< it may use this one and the next
};

/// Sums over ranks in rank order, in two phases (see mpi_all_reduce.cpp).
[[nodiscard]] std::unique_ptr<MpiOperation> start_mpi_all_reduce(const at::Tensor& tensor, ReduceOp op,
                                                                 MpiPlace place);
/// The first of these phases: the own chunk is summed.
[[nodiscard]] std::unique_ptr<MpiOperation> start_mpi_reduce_scatter(const at::Tensor& tensor,
                                                                     MpiPlace place);
[[nodiscard]] std::unique_ptr<MpiOperation> start_mpi_all_gather(const at::Tensor& tensor, MpiPlace place);
[[nodiscard]] std::unique_ptr<MpiOperation> start_mpi_all_to_all(const at::Tensor& send,
                                                                 const at::Tensor& receive, MpiPlace place);
[[nodiscard]] std::unique_ptr<MpiOperation> start_mpi_exchange(const at::Tensor& send, std::int64_t to,
                                                               const at::Tensor& receive, std::int64_t from,
                                                               MpiPlace place);

}  // namespace sluice::parallel
