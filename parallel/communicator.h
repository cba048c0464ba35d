#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::parallel {

enum class ReduceOp { kSum, kMin, kMax };
enum class CrossCheck { kOff, kOn };

/// The blocking operation that a rank is in: what a watchdog looks at.
struct PendingOperation {
  std::string name;
  std::int64_t sequence = 0;  ///< how many operations this rank had started, this one included
  std::chrono::steady_clock::time_point since;
};

/// A running collective. Finishes in its destructor at the latest, so an exchange never outlives its buffer.
/// Must not outlive its communicator. A fault that only the destructor sees is not lost: every later
/// operation of the communicator throws it.
class [[nodiscard]] Work {
 public:
  /// What a back end gives: test() makes progress and says whether the operation is done; wait() blocks until
  /// it is.
  class Handle {
   public:
    virtual ~Handle() = default;
    virtual bool test() = 0;
    virtual void wait() = 0;
  };

  Work() = default;
  explicit Work(std::unique_ptr<Handle> handle);
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

/// A fixed group of ranks that exchange flat buffers. The front door checks the contract (TORCH_CHECK naming
/// the values) and keeps the trace that the watchdog reads; back ends only move bytes. All ranks call the
/// same operations in the same order, one thread at a time. A group of one is complete: every operation is
/// the identity.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  [[nodiscard]] virtual std::int64_t rank() const = 0;
  [[nodiscard]] virtual std::int64_t size() const = 0;
  [[nodiscard]] virtual std::string name() const = 0;  ///< "local", "thread", "mpi", "nccl"

  /// In place, blocking. `tensor`: contiguous; float32, float64, int64 or int32; same shape and type on all
  /// ranks (checked across ranks in debug builds). Each element is folded over ranks in rank order, ((x0 +
  /// x1) + x2) + ..., whatever the back end: the bits are the same on every rank and in every run. kMin and
  /// kMax keep NaN.
  void all_reduce(const at::Tensor& tensor, ReduceOp op);
  /// In place, not blocking; `tensor` belongs to the exchange until the Work is done.
  Work all_reduce_async(const at::Tensor& tensor, ReduceOp op);
  /// In place, blocking. `tensor`: contiguous, of any type; same shape and type on all ranks.
  void broadcast(const at::Tensor& tensor, std::int64_t root);
  /// Any bytes, of any length on the root; all get the root's.
  [[nodiscard]] std::string broadcast(std::string bytes, std::int64_t root);
  /// Every rank's bytes, by rank.
  [[nodiscard]] std::vector<std::string> all_gather(std::string_view bytes);
  void barrier();
  /// Ends the whole job with this exit code, without waiting for other ranks.
  [[noreturn]] virtual void abort(int exit_code) = 0;

  /// Compare operation, shape and type over ranks before each operation. On by default in debug builds only:
  /// it costs an exchange each. All ranks must agree on it.
  void set_cross_check(CrossCheck check) { cross_check_ = check; }
  /// The operation this rank blocks in, if any. May be called from any thread.
  [[nodiscard]] std::optional<PendingOperation> pending() const;
  /// The ranks known not to have started operation `sequence` yet; none where the back end cannot see them
  /// (ranks of other hosts). May be called from any thread.
  [[nodiscard]] std::vector<std::int64_t> missing_ranks(std::int64_t sequence) const;

 protected:
  Communicator() = default;

 private:
  class Blocking;
  class TracedHandle;

  virtual std::unique_ptr<Work::Handle> do_all_reduce(const at::Tensor& tensor, ReduceOp op) = 0;
  virtual void do_broadcast(const at::Tensor& tensor, std::int64_t root) = 0;
  virtual std::string do_broadcast_bytes(std::string bytes, std::int64_t root) = 0;
  virtual std::vector<std::string> do_all_gather(std::string_view bytes) = 0;
  virtual void do_barrier() = 0;
  /// Makes known to the other ranks' watchdogs how many operations this rank has started.
  virtual void do_publish(std::int64_t /*sequence*/) {}
  /// How many operations each rank has started, -1 where unknown; empty: all unknown. Any thread.
  [[nodiscard]] virtual std::vector<std::int64_t> do_published() const { return {}; }

  void check_tensor(const char* operation, const at::Tensor& tensor) const;
  void check_reducible(const at::Tensor& tensor) const;
  void check_root(const char* operation, std::int64_t root) const;
  std::int64_t enter(const std::string& signature);

  mutable std::mutex pending_mutex_;
  std::optional<PendingOperation> pending_;
  std::int64_t sequence_ = 0;
#ifdef NDEBUG
  CrossCheck cross_check_ = CrossCheck::kOff;
#else
  CrossCheck cross_check_ = CrossCheck::kOn;
#endif
};

/// The group of one.
[[nodiscard]] std::unique_ptr<Communicator> make_local_communicator();

}  // namespace sluice::parallel
