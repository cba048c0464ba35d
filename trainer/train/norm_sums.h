#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "parallel/communicator.h"
#include "trainer/kernels/device_update.h"
#include "trainer/train/step.h"

namespace sluice::train {

/// The sums of squares that a step's gradient norm is made of on a GPU, one for each slice of the arena
/// (ArenaLayout::slices), in two parts: of buckets that are reduced while the one that forward uses first,
/// whose gradient backward has last, is still on its way, and of that one and any after it. Where ranks form
/// those of their own slices alone they exchange them. Only enqueues, and may be captured.
class NormSums {
 public:
  /// `blocks`: how the arena's blocks are updated (block_updates); what is left alone has no gradient and is
  /// not read. Replica and ranks outlive it.
  NormSums(const Replica& replica, SquareSums sums, parallel::Communicator& ranks, const at::Tensor& blocks);

  /// How many buckets begin() needs reduced.
  [[nodiscard]] std::int64_t early_buckets() const { return early_buckets_; }
  void begin();
  /// With all buckets reduced, after begin(): float64 [slices], the same on every rank. Collective.
  [[nodiscard]] const at::Tensor& finish();

 private:
  const Replica& replica_;
  parallel::Communicator& ranks_;
  SquareSums which_;
  std::int64_t early_buckets_;
  kernels::SliceSums early_;
  kernels::SliceSums late_;
  at::Tensor sums_;
};

}  // namespace sluice::train
