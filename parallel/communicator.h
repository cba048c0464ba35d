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

/// What moves exchange buffers between GPUs of one host that reach one another directly; elsewhere it is
/// NCCL's kernels. kCopyEngines: NCCL's collectives without kernels. kPeerMemory: who has values writes them
/// where they are needed (has_peer_memory); collectives are NCCL's kernels'. kHostMemory: copy engines again,
/// but through memory of the host, whether GPUs reach one another or not.
enum class Movers { kNcclKernels, kCopyEngines, kPeerMemory, kHostMemory };

/// Where a rank is among those of its host.
struct Place {
  std::int64_t local_rank = 0;
  std::int64_t local_size = 1;
};

class Communicator;

/// The blocking operation that a rank is in: what a watchdog looks at.
struct PendingOperation {
  std::string name;
  std::int64_t sequence = 0;  ///< how many operations of `group` this rank had started, this one included
  std::chrono::steady_clock::time_point since;
  const Communicator* group = nullptr;  ///< whose operation it is: the group asked, or one split off it
};

/// A running collective. Finishes in its destructor at the latest, so an exchange never outlives its buffer.
/// Must not outlive its communicator. A fault that only the destructor sees is not lost: every later
/// operation of the communicator throws it. Of CUDA tensors it is stream-ordered: the exchange follows what
/// the current stream held when it was started, wait() makes the then current stream wait (not the host),
/// and test() is true at once.
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
  bool done_ = false;
};

/// A fixed group of ranks that exchange flat buffers. The front door checks the contract (TORCH_CHECK naming
/// the values) and keeps the trace that the watchdog reads; back ends only move bytes. All ranks call the
/// same operations in the same order, one thread at a time. A group of one is complete: every operation is
/// the identity. Every group takes CPU tensors; one made by make_nccl_communicator also those of its GPU.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  [[nodiscard]] virtual std::int64_t rank() const = 0;
  [[nodiscard]] virtual std::int64_t size() const = 0;
  [[nodiscard]] virtual std::string name() const = 0;  ///< "local", "thread", "mpi", "nccl"
  [[nodiscard]] virtual Place place() const { return {rank(), size()}; }

  /// In place, blocking. `tensor`: contiguous; float32, float64, int64 or int32, on a GPU also bfloat16; same
  /// shape and type on all ranks (checked across ranks in debug builds). Each element of a CPU tensor is
  /// folded over ranks in rank order, ((x0 + x1) + x2) + ..., whatever the back end: the bits are the same on
  /// every rank and in every run, and kMin and kMax keep NaN. NCCL promises the same bits on every rank only.
  void all_reduce(const at::Tensor& tensor, ReduceOp op);
  /// In place, not blocking; `tensor` belongs to the exchange until the Work is done.
  Work all_reduce_async(const at::Tensor& tensor, ReduceOp op);
  // The next three cut flat tensors into size() equal chunks, by rank: contiguous, numel % size() == 0, same
  // shape and type on all ranks. The tensors belong to the exchange until the Work is done.
  /// In place: chunk rank() becomes its sum over ranks, with the bits of all_reduce (CPU); the other chunks
  /// are unspecified afterwards. Types as for all_reduce.
  Work reduce_scatter_async(const at::Tensor& tensor);
  /// In place, any type: chunk r becomes what rank r holds there.
  Work all_gather_async(const at::Tensor& tensor);
  /// Any type: chunk j of `send` goes to rank j, chunk i of `receive` comes from rank i. Same type, shape and
  /// device; the two do not overlap.
  Work all_to_all_async(const at::Tensor& send, const at::Tensor& receive);
  /// All ranks at once, each with one message of any length: `send` goes to rank `to`, `receive` comes from
  /// rank `from`, whose `to` is this rank and whose `send` has as many bytes. Any type; the two do not
  /// overlap. What rings are made of.
  Work exchange_async(const at::Tensor& send, std::int64_t to, const at::Tensor& receive, std::int64_t from);
  /// In place, blocking. `tensor`: contiguous, of any type; same shape and type on all ranks.
  void broadcast(const at::Tensor& tensor, std::int64_t root);
  /// Any bytes, of any length on the root; all get the root's.
  [[nodiscard]] std::string broadcast(std::string bytes, std::int64_t root);
  /// Every rank's bytes, by rank.
  [[nodiscard]] std::vector<std::string> all_gather(std::string_view bytes);
  void barrier();
  /// Collective. Zeros in memory that the group exchanges fastest; it and views of it are tensors like any
  /// others. Not to be used once the communicator is gone.
  [[nodiscard]] at::Tensor exchange_buffer(std::int64_t elements, at::ScalarType dtype, at::Device device);
  /// Whether all_gather_async and all_to_all_async of exchange buffers leave the cores of a GPU alone: its
  /// copy engines move the bytes. The same on all ranks.
  [[nodiscard]] virtual bool has_copy_engines() const { return false; }
  /// Whether ranks write to one another's exchange buffers. The same on all of them.
  [[nodiscard]] virtual bool has_peer_memory() const { return false; }
  /// Whether what is exchanged goes through the host's memory, by copy engines: has_copy_engines() holds for
  /// any tensor. The same on all ranks.
  [[nodiscard]] virtual bool has_host_memory() const { return false; }
  /// Where it does: all_to_all_async that receives from each rank in a place of its own, contiguous; what a
  /// rank has for itself stays where it is, and `receive[rank()]` is not looked at.
  Work deal_async(const at::Tensor& send, const std::vector<at::Tensor>& receive);
  /// Where has_peer_memory(): of each other rank, by rank, the same part of its exchange buffer that `part`
  /// is of this one's. Others see what is written there after a meet_async() of all.
  [[nodiscard]] std::vector<at::Tensor> peer_views(const at::Tensor& part) const;
  /// Likewise. Exchanges nothing: what waits for it comes after what every rank's current stream held when it
  /// was called there, and sees what that wrote.
  Work meet_async();
  /// A group of its own for the ranks that give the same `part`, in their order here, for CPU tensors (for
  /// those of GPUs make_nccl_communicator takes it). Collective; must not outlive this group, whose trace
  /// shows its operations too.
  [[nodiscard]] std::unique_ptr<Communicator> split(std::int64_t part);
  /// Ends the whole job with this exit code, without waiting for other ranks.
  [[noreturn]] virtual void abort(int exit_code) = 0;

  /// Throws when the group has met a fault that no call has shown yet (NcclError of a peer that is gone).
  /// What waits for a GPU by other means than Work polls it. Any thread.
  virtual void check() {}

  class Blocking;
  /// Names what this rank waits for outside of the calls above (the GPU at the end of a step) as long as the
  /// object lives: pending() shows it, the watchdog ends the job over it. Counts as an operation: all ranks
  /// enter the same ones in the same order.
  [[nodiscard]] Blocking blocking(std::string name);

  /// Compare operation, shape and type over ranks before each operation. On by default in debug builds only:
  /// it costs an exchange each. All ranks must agree on it.
  void set_cross_check(CrossCheck check) { cross_check_ = check; }
  /// The operation this rank blocks in, if any, of this group or one split off it. May be called from any
  /// thread.
  [[nodiscard]] std::optional<PendingOperation> pending() const;
  /// The ranks known not to have started this group's operation `sequence` yet; none where the back end
  /// cannot see them (ranks of other hosts). Those of a group that was split off have the numbers that they
  /// have where all are together. May be called from any thread.
  [[nodiscard]] std::vector<std::int64_t> missing_ranks(std::int64_t sequence) const;
  /// Likewise of what pending() gave, as long as this rank blocks in it.
  [[nodiscard]] std::vector<std::int64_t> missing_ranks(const PendingOperation& operation) const;

 protected:
  Communicator() = default;
  /// Shares the trace of `host`, to which it hands some operations on; `host` outlives it.
  explicit Communicator(Communicator& host) : host_(&host) {}

 private:
  class TracedHandle;

  virtual std::unique_ptr<Work::Handle> do_all_reduce(const at::Tensor& tensor, ReduceOp op) = 0;
  virtual std::unique_ptr<Work::Handle> do_reduce_scatter(const at::Tensor& tensor) = 0;
  virtual std::unique_ptr<Work::Handle> do_all_gather_tensor(const at::Tensor& tensor) = 0;
  virtual std::unique_ptr<Work::Handle> do_all_to_all(const at::Tensor& send, const at::Tensor& receive) = 0;
  virtual std::unique_ptr<Work::Handle> do_exchange(const at::Tensor& send, std::int64_t to,
                                                    const at::Tensor& receive, std::int64_t from) = 0;
  virtual std::unique_ptr<Communicator> do_split(std::int64_t part) = 0;
  virtual void do_broadcast(const at::Tensor& tensor, std::int64_t root) = 0;
  virtual std::string do_broadcast_bytes(std::string bytes, std::int64_t root) = 0;
  virtual std::vector<std::string> do_all_gather(std::string_view bytes) = 0;
  virtual void do_barrier() = 0;
  [[nodiscard]] virtual std::vector<at::Tensor> do_peer_views(const at::Tensor& part) const;
  virtual std::unique_ptr<Work::Handle> do_meet();
  virtual std::unique_ptr<Work::Handle> do_deal(const at::Tensor& send,
                                                const std::vector<at::Tensor>& receive);
  virtual at::Tensor do_exchange_buffer(std::int64_t elements, at::ScalarType dtype, at::Device device);
  /// Makes known to the other ranks' watchdogs how many operations this rank has started.
  virtual void do_publish(std::int64_t /*sequence*/) {}
  /// How many operations each rank has started, -1 where unknown; empty: all unknown. Any thread.
  [[nodiscard]] virtual std::vector<std::int64_t> do_published() const { return {}; }

  /// Which tensors a group of more than one exchanges.
  [[nodiscard]] virtual bool takes(at::Device device) const { return device.is_cpu(); }

  void check_tensor(const char* operation, const at::Tensor& tensor) const;
  void check_reducible(const char* operation, const at::Tensor& tensor) const;
  void check_chunks(const char* operation, const at::Tensor& tensor) const;
  void check_root(const char* operation, std::int64_t root) const;
  std::int64_t count_operation();
  std::int64_t enter(const std::string& signature);
  /// Who counts operations: the last of the hosts.
  [[nodiscard]] Communicator& counter() { return host_ ? host_->counter() : *this; }
  [[nodiscard]] const Communicator& counter() const { return host_ ? host_->counter() : *this; }
  /// Who shows them: the counter of the group that this one was split off, or its own.
  [[nodiscard]] Communicator& trace() { return counter().parent_ ? counter().parent_->trace() : counter(); }
  [[nodiscard]] const Communicator& trace() const {
    return counter().parent_ ? counter().parent_->trace() : counter();
  }
  void split_off(Communicator& parent, std::vector<std::int64_t> members);
  [[nodiscard]] std::string named(std::string operation) const;

  Communicator* host_ = nullptr;
  Communicator* parent_ = nullptr;     ///< of a group that was split off
  std::vector<std::int64_t> members_;  ///< then its ranks' ranks in the trace's group
  mutable std::mutex pending_mutex_;
  std::optional<PendingOperation> pending_;
  std::int64_t sequence_ = 0;
#ifdef NDEBUG
  CrossCheck cross_check_ = CrossCheck::kOff;
#else
  CrossCheck cross_check_ = CrossCheck::kOn;
#endif
};

/// Marks its communicator as blocked for as long as it lives.
class [[nodiscard]] Communicator::Blocking {
 public:
  ~Blocking();
  Blocking(const Blocking&) = delete;
  Blocking& operator=(const Blocking&) = delete;

 private:
  friend class Communicator;
  Blocking(Communicator& communicator, std::string name, std::int64_t sequence);

  Communicator& trace_;
  std::optional<PendingOperation> outer_;  ///< one may wait within another
};

/// The group of one.
[[nodiscard]] std::unique_ptr<Communicator> make_local_communicator();

}  // namespace sluice::parallel
