#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "parallel/arena.h"
#include "trainer/model/held_parameters.h"

namespace sluice::train {

/// Elements that stand one after another both in a rank's arena and in the logical one.
struct Segment {
  std::int64_t held = 0;
  std::int64_t logical = 0;
  std::int64_t numel = 0;
};

/// A model's parameters as the arena of a rank has them, with room for the largest part: of ranks of which
/// `sequence_ranks` share each sequence, and hold the rows `held` of what is dealt.
[[nodiscard]] std::vector<parallel::TensorSpec> arena_tensors(const std::vector<model::ParameterSpec>& specs,
                                                              const std::optional<model::HeldRows>& held,
                                                              std::int64_t sequence_ranks);

/// A model's tensors as each rank has them in its arena, and as they are logically: what checkpoints hold,
/// whatever ranks there were. Both are one where no parameter is dealt by rows of positions. Ranks differ in
/// their place in a row alone (parallel::Mesh); all offsets are the same on all of them.
class StateLayout {
 public:
  /// `specs`: logical ones. `held`: which rows this rank has of those that are dealt; none: all ranks have
  /// all.
  StateLayout(const std::vector<model::ParameterSpec>& specs, const parallel::BucketPlan& buckets,
              const std::optional<model::HeldRows>& held);
  /// Of tensors that all ranks have.
  StateLayout(const parallel::ArenaLayout& layout);  // NOLINT: a layout of one kind is all there is to say

  /// Of this rank's arena.
  [[nodiscard]] const parallel::ArenaLayout& held() const { return held_; }
  [[nodiscard]] const parallel::ArenaLayout& logical() const { return logical_ ? *logical_ : held_; }
  [[nodiscard]] bool is_logical() const { return !logical_; }  ///< held() is logical()
  /// What the arena of a rank at `place` has, in its order, padding left out where it differs.
  [[nodiscard]] const std::vector<Segment>& segments(std::int64_t place) const {
    return segments_[static_cast<std::size_t>(is_logical() ? 0 : place)];
  }

 private:
  parallel::ArenaLayout held_;
  std::optional<parallel::ArenaLayout> logical_;
  std::vector<std::vector<Segment>> segments_;
};

}  // namespace sluice::train
