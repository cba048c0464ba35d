#pragma once

#include <cstdint>
#include <vector>

#include "parallel/arena.h"
#include "parallel/communicator.h"

namespace sluice::parallel {

/// Sums the flat gradient buffer over ranks, bucket by bucket, while backward still runs. Buckets are started
/// in the plan's order on every rank, whatever order gradients become ready in: bucket k starts when it and
/// all before it are ready.
class GradientReducer {
 public:
  GradientReducer(const ArenaLayout& layout, at::Tensor gradients, Communicator& communicator,
                  std::int64_t bucket_elements);

  /// Before the backward whose gradients are to be reduced (the last micro-batch of a step).
  void start();
  /// Gradient `entry` is final. Starts what can be started and makes progress on what runs. Each entry
  /// exactly once.
  void mark_ready(std::int64_t entry);
  /// Blocks until every bucket is reduced; throws if an entry was never marked. Returns the seconds it had to
  /// wait: exposed communication.
  double finish();
  /// Between start() and finish(): makes progress on running reductions (MPI moves only inside MPI calls).
  void progress();

  [[nodiscard]] const std::vector<Bucket>& buckets() const { return buckets_; }

 private:
  const ArenaLayout& layout_;
  at::Tensor gradients_;
  Communicator& communicator_;
  std::vector<Bucket> buckets_;
  std::vector<std::int64_t> bucket_of_entry_;
  std::vector<std::int64_t> missing_;  ///< entries of each bucket that are not ready yet
  std::vector<bool> ready_;
  std::vector<Work> running_;
  bool active_ = false;
};

}  // namespace sluice::parallel
