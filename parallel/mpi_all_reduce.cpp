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
  Base(at::Tensor tensor, ReduceOp op, std::int64_t rank, std::int64_t size, MpiMessages messages, int tag)
      : tensor_(std::move(tensor)),
        data_(static_cast<std::byte*>(tensor_.data_ptr())),
        element_(tensor_.element_size()),
        op_(op),
        rank_(rank),
        size_(size),
        messages_(std::move(messages)),
        tag_(tag) {}

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

class TwoSteps final : public Base {
 public:
  template <typename... Arguments>
  explicit TwoSteps(Arguments&&... arguments) : Base(std::forward<Arguments>(arguments)...) {
    receive_from_all(length(rank_));
    for (std::int64_t peer = 0; peer < size_; ++peer)
      if (peer != rank_) messages_.send(data_ + begin(peer), length(peer), peer, tag_);
  }

  bool advance() override {
    if (!messages_.test()) return false;
    if (std::exchange(folded_, true)) return true;
    // Other ranks' slices are overwritten from here on: their messages have left.
    fold_received(data_ + begin(rank_), length(rank_));
    received_.reset();
    for (std::int64_t peer = 0; peer < size_; ++peer) {
      if (peer == rank_) continue;
      messages_.receive(data_ + begin(peer), length(peer), peer, tag_ + 1);
      messages_.send(data_ + begin(rank_), length(rank_), peer, tag_ + 1);
    }
    return messages_.test();
  }

 private:
  /// The slice that rank `owner` folds, in bytes; slices differ by at most one element.
  [[nodiscard]] std::int64_t begin(std::int64_t owner) const {
    const std::int64_t count = tensor_.numel();
    return (count / size_ * owner + std::min(owner, count % size_)) * element_;
  }
  [[nodiscard]] std::int64_t length(std::int64_t owner) const { return begin(owner + 1) - begin(owner); }

  bool folded_ = false;
};

}  // namespace

std::unique_ptr<MpiOperation> start_mpi_all_reduce(const at::Tensor& tensor, ReduceOp op, std::int64_t rank,
                                                   std::int64_t size, MpiMessages messages, int tag) {
  if (tensor.numel() * tensor.element_size() <= kOneStepBytes)
    return std::make_unique<OneStep>(tensor, op, rank, size, std::move(messages), tag);
  return std::make_unique<TwoSteps>(tensor, op, rank, size, std::move(messages), tag);
}

}  // namespace sluice::parallel
