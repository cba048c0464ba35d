#pragma once

#include <nccl.h>

#include <atomic>
#include <exception>
#include <mutex>
#include <string>

#include "parallel/communicator.h"
#include "parallel/nccl_communicator.h"

namespace sluice::parallel {

/// Owns an ncclComm_t: one call at a time, each until NCCL says that it is done or the limit is over, none
/// after a fault. Included by nccl_*.cpp alone.
class NcclGroup {
 public:
  /// Collective over `host`; the current CUDA device is the group's.
  NcclGroup(Communicator& host, NcclOptions options);
  /// Destroys a healthy group, aborts any other.
  ~NcclGroup();
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  /// `enqueue` takes the ncclComm_t and returns NCCL's result; `call` is its name.
  template <typename Enqueue>
  void run(const char* call, Enqueue enqueue) {
    const std::lock_guard lock(calls_);
    if (fault_) std::rethrow_exception(fault_);
    settle(call, enqueue(comm_));
  }

  /// Throws what NCCL's threads have met. Any thread.
  void check();
  /// No fault so far, and none that an exception in flight may stand for: what the destructor destroys.
  [[nodiscard]] bool is_healthy() const;
  /// Lets kernels that wait for a peer end, as far as a few seconds allow. Any thread.
  void abort() noexcept;

 private:
  void settle(const char* call, ncclResult_t result);
  [[noreturn]] void fail(const char* call, const std::string& code_text);
  void give_up() noexcept;
  void destroy() noexcept;

  Communicator& host_;
  NcclOptions options_;
  int exceptions_at_start_;
  ncclComm_t comm_ = nullptr;  ///< null once it is aborted or destroyed
  std::timed_mutex calls_;
  std::exception_ptr fault_;
  std::atomic<bool> aborting_ = false;
};

}  // namespace sluice::parallel
