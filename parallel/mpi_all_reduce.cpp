#include <algorithm>
#include <cstddef>
#include <utility>

#include "parallel/fold.h"
#include "parallel/mpi_internal.h"

// Why not MPI_Iallreduce: the standard only recommends that equal inputs give equal bits, libraries choose
// algorithms by size and rank count, and replicas that drift by one bit are lost. Here each element is folded
// once, by one rank, in rank order, so that all ranks hold the same bits as a plain loop over ranks would
// give. Long tensors travel twice (to the rank that owns a slice, and back), which is as little as any
// all-reduce sends; there are only two steps that need this process to be inside MPI, where a ring has 2
// (size - 1). Short ones go from everybody to everybody in one step.
namespace sluice::parallel {
namespace {

constexpr std::int64_t kOneStepBytes = 4096;

class Base : public MpiOperation {
 public:
  Base(at::Tensor tensor, ReduceOp op, MpiPlace place)
      : tensor_(std::move(tensor)),
        data_(static_cast<std::byte*>(tensor_.data_ptr())),
        element_(tensor_.element_size()),
        op_(op),
        rank_(place.rank),
        size_(place.size),
        messages_(std::move(place.messages)),
        tag_(place.tag) {}

 protected:
  /// Scratch for `bytes` from every rank (own room unused), and the messages that fill it.
  void receive_from_all(std::int64_t bytes) {
    received_.reset(
        new std::byte[static_cast<std::size_t>(bytes * size_)]);  // not value-initialised: filled by MPI
    for (std::int64_t peer = 0; peer < size_; ++peer)
      if (peer != rank_) messages_.receive(received_.get() + peer * bytes, bytes, peer, tag_);
  }

  /// mine = ((x0 + x1) + x2) + ..., where the own part lies in `mine`; in blocks that stay in the cache.
  void fold_received(std::byte* mine, std::int64_t bytes) {
    constexpr std::int64_t kBlock = 1 << 14;
    for (std::int64_t at = 0; at < bytes; at += kBlock) {
      const std::int64_t length = std::min(kBlock, bytes - at);
      // Starting from rank 0's part keeps the order; the sum then replaces the own part.
      std::byte* sum = rank_ == 0 ? mine + at : received_.get() + at;
      for (std::int64_t peer = 1; peer < size_; ++peer)
        fold(sum, peer == rank_ ? mine + at : received_.get() + peer * bytes + at, length / element_,
             tensor_.scalar_type(), op_);
      if (rank_ != 0) std::copy(sum, sum + length, mine + at);
    }
  }

  at::Tensor tensor_;
  std::byte* data_;
  std::int64_t element_;  ///< bytes
  ReduceOp op_;
  std::int64_t rank_;
  std::int64_t size_;
  MpiMessages messages_;
  int tag_;
  std::unique_ptr<std::byte[]> received_;
};

class OneStep final : public Base {
 public:
  template <typename... Arguments>
  explicit OneStep(Arguments&&... arguments) : Base(std::forward<Arguments>(arguments)...) {
    const std::int64_t bytes = tensor_.numel() * element_;
    receive_from_all(bytes);
    for (std::int64_t peer = 0; peer < size_; ++peer)
      if (peer != rank_) messages_.send(data_, bytes, peer, tag_);
  }

  bool advance() override {
    if (!messages_.test()) return false;
    fold_received(data_, tensor_.numel() * element_);
    return true;
  }
};

/// Every rank sums the slice that it owns; the others' slices keep what they held.
class ReduceScatter : public Base {
 public:
  template <typename... Arguments>
  explicit ReduceScatter(Arguments&&... arguments) : Base(std::forward<Arguments>(arguments)...) {
    receive_from_all(length(rank_));
    for (std::int64_t peer = 0; peer < size_; ++peer)
      if (peer != rank_) messages_.send(data_ + begin(peer), length(peer), peer, tag_);
  }

  bool advance() override {
    if (!messages_.test()) return false;
    fold_received(data_ + begin(rank_), length(rank_));
    received_.reset();
    return true;
  }

 protected:
  /// The slice that rank `owner` folds, in bytes; slices differ by at most one element.
  [[nodiscard]] std::int64_t begin(std::int64_t owner) const {
    const std::int64_t count = tensor_.numel();
    return (count / size_ * owner + std::min(owner, count % size_)) * element_;
  }
  [[nodiscard]] std::int64_t length(std::int64_t owner) const { return begin(owner + 1) - begin(owner); }
};

class TwoSteps final : public ReduceScatter {
 public:
  using ReduceScatter::ReduceScatter;

  bool advance() override {
    if (folded_) return messages_.test();
    if (!ReduceScatter::advance()) return false;
    folded_ = true;
    // Other ranks' slices are overwritten from here on: their messages have left.
    for (std::int64_t peer = 0; peer < size_; ++peer) {
      if (peer == rank_) continue;
      messages_.receive(data_ + begin(peer), length(peer), peer, tag_ + 1);
      messages_.send(data_ + begin(rank_), length(rank_), peer, tag_ + 1);
    }
    return messages_.test();
  }

 private:
  bool folded_ = false;
};

}  // namespace

std::unique_ptr<MpiOperation> start_mpi_all_reduce(const at::Tensor& tensor, ReduceOp op, MpiPlace place) {
  if (tensor.numel() * tensor.element_size() <= kOneStepBytes)
    return std::make_unique<OneStep>(tensor, op, std::move(place));
  return std::make_unique<TwoSteps>(tensor, op, std::move(place));
}

std::unique_ptr<MpiOperation> start_mpi_reduce_scatter(const at::Tensor& tensor, MpiPlace place) {
  return std::make_unique<ReduceScatter>(tensor, ReduceOp::kSum, std::move(place));
}

}  // namespace sluice::parallel
