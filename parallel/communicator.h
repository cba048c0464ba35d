#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::parallel {

enum class ReduceOp { kSum, kMin, kMax };

/// A running collective. Finishes in its destructor at the latest, so a buffer never outlives its exchange.
class [[nodiscard]] Work {
 public:
  /// What a back end gives: test() makes progress and says whether the operation is done; wait() blocks until it is.
  class Handle {
   public:
    virtual ~Handle() = default;
    virtual bool test() = 0;
    virtual void wait() = 0;
  };

  Work() = default;
  explicit Work(std::unique_ptr<Handle> handle) : handle_(std::move(handle)) {}
  ~Work();
  Work(Work&&) = default;
  Work& operator=(Work&& other) noexcept;
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;

  bool test();
  void wait();

 private:
  std::unique_ptr<Handle> handle_;
};

/// A fixed group of ranks that exchange flat buffers. The front door checks the contract and keeps the trace that the
/// watchdog prints; back ends only move bytes. All ranks call the same operations in the same order.
/// A group of one is complete: every operation is the identity.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  [[nodiscard]] virtual std::int64_t rank() const = 0;
  [[nodiscard]] virtual std::int64_t size() const = 0;
  [[nodiscard]] virtual std::string name() const = 0;  ///< "local", "thread", "mpi", "nccl"

  /// In place, blocking. `tensor`: contiguous; float32, float64, int64 or int32; same shape and type on all ranks
  /// (checked across ranks in debug builds).
  void all_reduce(const at::Tensor& tensor, ReduceOp op);
  /// In place, not blocking; `tensor` belongs to the exchange until the Work is done.
  Work all_reduce_async(const at::Tensor& tensor, ReduceOp op);
  void broadcast(const at::Tensor& tensor, std::int64_t root);
  /// Any bytes, of any length on the root; all get the root's.
  [[nodiscard]] std::string broadcast(std::string bytes, std::int64_t root);
  /// Every rank's bytes, by rank.
  [[nodiscard]] std::vector<std::string> all_gather(std::string_view bytes);
  void barrier();
  /// Ends the whole job with this exit code, without waiting for other ranks.
  [[noreturn]] virtual void abort(int exit_code) = 0;

 protected:
  Communicator() = default;

 private:
  virtual std::unique_ptr<Work::Handle> do_all_reduce(const at::Tensor& tensor, ReduceOp op) = 0;
  virtual void do_broadcast(const at::Tensor& tensor, std::int64_t root) = 0;
  virtual std::string do_broadcast_bytes(std::string bytes, std::int64_t root) = 0;
  virtual std::vector<std::string> do_all_gather(std::string_view bytes) = 0;
  virtual void do_barrier() = 0;
};

/// The group of one.
[[nodiscard]] std::unique_ptr<Communicator> make_local_communicator();

}  // namespace sluice::parallel
