#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "parallel/arena.h"
#include "parallel/bucket_groups.h"

namespace sluice::parallel {

/// Makes a flat buffer whole again after each rank has changed its own slices of it (ZeRO-1). Buckets are
/// gathered from the start of the buffer: in the order in which forward uses them. On a GPU nothing blocks
/// the host, every call only enqueues; may be captured.
class BucketGather {
 public:
  /// `layout` and the groups outlive it; `flat`: a buffer of that layout.
  BucketGather(const ArenaLayout& layout, const at::Tensor& flat, BucketGroups groups);

  /// Of two ranks that reach one another's memory the other one's buffer, undefined otherwise: who writes his
  /// slices there too needs no gather. (With more ranks such writes would wait for the links.)
  [[nodiscard]] const at::Tensor& other() const { return other_; }
  /// In place of start(), after writes to other(): waits for the other rank's.
  void start_written();
  /// Starts all buckets, those of some holders, the one that forward uses first, or all but that. They belong
  /// to the exchange until they were waited for.
  void start();
  void start(Holders holders);
  void start_first();
  void start_but_first();
  /// Until the bucket of entry `entry` is whole; on a GPU the current stream waits. A quarter as many after
  /// it are waited for as were before: a wait holds up a stream for some microseconds even for what has long
  /// come. Those already waited for cost nothing.
  void wait(std::int64_t entry);
  /// Until all that were started are.
  void finish();

 private:
  void start_at(std::size_t place);

  const ArenaLayout& layout_;
  at::Tensor flat_;
  at::Tensor other_;
  BucketGroups groups_;
  Work meeting_;
  std::vector<std::size_t> order_;  ///< in which forward uses buckets
  std::vector<Work> running_;       ///< in that order, like places
  std::vector<std::size_t> place_of_entry_;
  std::size_t waited_ = 0;  ///< buckets, in that order
};

}  // namespace sluice::parallel
