#pragma once

#include <cstdint>
#include <vector>

namespace sluice::kernels {

/// Positions [begin, end) of a sequence.
struct PositionRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  [[nodiscard]] std::int64_t count() const { return end - begin; }
  friend bool operator==(const PositionRange&, const PositionRange&) = default;
};

/// Consecutive positions, and where the first of them stands among a tensor's rows.
struct Strip {
  PositionRange range;
  std::int64_t row = 0;
};

/// Which positions of a sequence each of several ranks holds, dealt head-tail: the sequence is cut into tiles
/// and the tiles into 2 ranks chunks, of which rank r holds chunk r (head) and chunk 2 ranks - 1 - r (tail).
/// Ranks differ by at most one tile. A position of a causal mixing multiplies as many rows of the gate as
/// stand up to it: where 2 ranks tiles divide the sequence all ranks multiply the same number. A pure
/// function of its arguments.
class SequenceRows {
 public:
  /// Throws c10::Error for fewer than one position, rank or position of a tile, and for fewer tiles than
  /// ranks: one would hold nothing.
  SequenceRows(std::int64_t positions, std::int64_t ranks, std::int64_t tile);

  /// Where the same ranks hold the first `positions` alone, each what it holds of those; some may hold none.
  /// Throws c10::Error for fewer than one and for more than there are.
  [[nodiscard]] SequenceRows first(std::int64_t positions) const;

  [[nodiscard]] std::int64_t positions() const { return positions_; }
  [[nodiscard]] std::int64_t ranks() const { return static_cast<std::int64_t>(heads_.size()); }
  /// Either may be empty, not both.
  [[nodiscard]] PositionRange head(std::int64_t rank) const { return heads_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] PositionRange tail(std::int64_t rank) const { return tails_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] std::int64_t count(std::int64_t rank) const {
    return head(rank).count() + tail(rank).count();
  }
  [[nodiscard]] std::int64_t most() const;  ///< positions of the rank that holds the most
  /// A rank's tensors have the rows of its head, then those of its tail.
  [[nodiscard]] std::vector<Strip> strips(std::int64_t rank) const;
  /// The rank's positions in that order.
  [[nodiscard]] std::vector<std::int64_t> held(std::int64_t rank) const;

 private:
  std::int64_t positions_;
  std::vector<PositionRange> heads_;
  std::vector<PositionRange> tails_;
};

/// The tile for so many positions on so many ranks: 128 (what a GPU's products work on), halved as long as
/// there would be fewer than 2 ranks tiles, at least 1.
[[nodiscard]] std::int64_t sequence_tile(std::int64_t positions, std::int64_t ranks);

}  // namespace sluice::kernels
