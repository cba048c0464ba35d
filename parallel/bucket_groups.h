#pragma once

#include "parallel/arena.h"
#include "parallel/communicator.h"

namespace sluice::parallel {

/// The ranks that exchange the buckets of an arena, by who holds what is in them. They outlive it.
class BucketGroups {
 public:
  /// Of an arena that all ranks hold alike.
  BucketGroups(Communicator& all) : all_(all), same_place_(all) {}  // NOLINT: they are all groups there are
  /// `same_place`: the ranks with this one's place in their rows (Mesh::data()).
  BucketGroups(Communicator& all, Communicator& same_place) : all_(all), same_place_(same_place) {}

  [[nodiscard]] Communicator& all() const { return all_; }
  [[nodiscard]] Communicator& of(Holders holders) const {
    return holders == Holders::kAllRanks ? all_ : same_place_;
  }
  /// Throws c10::Error where some bucket of `layout` has slices for another number of ranks than its group.
  void check(const ArenaLayout& layout) const;

 private:
  Communicator& all_;
  Communicator& same_place_;
};

}  // namespace sluice::parallel
