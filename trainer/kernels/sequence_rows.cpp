#include "trainer/kernels/sequence_rows.h"

#include <c10/util/Exception.h>

#include <algorithm>

namespace sluice::kernels {

SequenceRows::SequenceRows(std::int64_t positions, std::int64_t ranks, std::int64_t tile)
    : positions_(positions) {
  TORCH_CHECK(positions >= 1 && ranks >= 1 && tile >= 1, "positions ", positions, ", ranks ", ranks,
              ", tile ", tile, ": all are at least 1");
  const std::int64_t tiles = (positions + tile - 1) / tile;
  TORCH_CHECK(tiles >= ranks, positions, " positions are ", tiles, " tiles of ", tile, ", fewer than ", ranks,
              " ranks: one would hold nothing");
  std::int64_t dealt = 0;
  const auto take = [&](std::int64_t count) {
    const std::int64_t begin = std::min(dealt * tile, positions);
    dealt += count;
    return PositionRange{begin, std::min(dealt * tile, positions)};
  };
  const auto tiles_of = [&](std::int64_t rank) { return tiles / ranks + (rank < tiles % ranks ? 1 : 0); };
  for (std::int64_t rank = 0; rank < ranks; ++rank) heads_.push_back(take(tiles_of(rank) / 2));
  tails_.resize(heads_.size());
  for (std::int64_t rank = ranks; rank-- > 0;)
    tails_[static_cast<std::size_t>(rank)] = take(tiles_of(rank) - tiles_of(rank) / 2);
}

SequenceRows SequenceRows::first(std::int64_t positions) const {
  TORCH_CHECK(positions >= 1 && positions <= positions_, "the first ", positions, " of ", positions_,
              " positions");
  SequenceRows rows = *this;
  rows.positions_ = positions;
  for (auto* ranges : {&rows.heads_, &rows.tails_})
    for (PositionRange& range : *ranges)
      range = {std::min(range.begin, positions), std::min(range.end, positions)};
  return rows;
}

std::int64_t SequenceRows::most() const {
  std::int64_t most = 0;
  for (std::int64_t rank = 0; rank < ranks(); ++rank) most = std::max(most, count(rank));
  return most;
}

std::vector<Strip> SequenceRows::strips(std::int64_t rank) const {
  return {{head(rank), 0}, {tail(rank), head(rank).count()}};
}

std::vector<std::int64_t> SequenceRows::held(std::int64_t rank) const {
  std::vector<std::int64_t> positions;
  for (const Strip& strip : strips(rank))
    for (std::int64_t at = strip.range.begin; at < strip.range.end; ++at) positions.push_back(at);
  return positions;
}

std::int64_t sequence_tile(std::int64_t positions, std::int64_t ranks) {
  std::int64_t tile = 128;
  while (tile > 1 && positions < 2 * ranks * tile) tile /= 2;
  return tile;
}

}  // namespace sluice::kernels
