#include "trainer/kernels/sequence_rows.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <numeric>

#include "trainer/kernels/strip_products.h"

namespace sluice::kernels {
namespace {

TEST(SequenceRows, DealsHeadAndTail) {
  const SequenceRows rows(16, 2, 4);
  EXPECT_EQ(rows.head(0), (PositionRange{0, 4}));
  EXPECT_EQ(rows.head(1), (PositionRange{4, 8}));
  EXPECT_EQ(rows.tail(1), (PositionRange{8, 12}));
  EXPECT_EQ(rows.tail(0), (PositionRange{12, 16}));
  EXPECT_EQ(rows.held(0), (std::vector<std::int64_t>{0, 1, 2, 3, 12, 13, 14, 15}));
}

TEST(SequenceRows, EveryPositionHasOneRankAndRanksDifferByATile) {
  EXPECT_TRUE(rc::check("any shape", [] {
    const auto ranks = *rc::gen::inRange<std::int64_t>(1, 9);
    const auto tile = *rc::gen::inRange<std::int64_t>(1, 20);
    const auto positions = *rc::gen::inRange<std::int64_t>((ranks - 1) * tile + 1, 40 * tile);
    const SequenceRows rows(positions, ranks, tile);
    std::vector<std::int64_t> all;
    std::int64_t fewest = positions;
    for (std::int64_t rank = 0; rank < ranks; ++rank) {
      const auto held = rows.held(rank);
      RC_ASSERT(static_cast<std::int64_t>(held.size()) == rows.count(rank));
      RC_ASSERT(rows.count(rank) >= 1);
      fewest = std::min(fewest, rows.count(rank));
      all.insert(all.end(), held.begin(), held.end());
    }
    std::ranges::sort(all);
    std::vector<std::int64_t> expected(static_cast<std::size_t>(positions));
    std::iota(expected.begin(), expected.end(), 0);
    RC_ASSERT(all == expected);
    RC_ASSERT(rows.most() - fewest <= 2 * tile);  // the last tile may be short
  }));
}

TEST(SequenceRows, TheFirstPositionsStayWhereTheyAre) {
  for (const std::int64_t ranks : {1, 2, 3}) {
    const SequenceRows rows(37, ranks, 4);
    for (std::int64_t count = 1; count <= 37; ++count) {
      const SequenceRows first = rows.first(count);
      EXPECT_EQ(first.positions(), count);
      for (std::int64_t rank = 0; rank < ranks; ++rank) {
        std::vector<std::int64_t> want = rows.held(rank);
        std::erase_if(want, [&](std::int64_t position) { return position >= count; });
        EXPECT_EQ(first.held(rank), want);
        for (std::size_t half = 0; half < 2; ++half) {
          const Strip strip = first.strips(rank)[half];
          if (strip.range.count() == 0) continue;
          EXPECT_EQ(strip.row, rows.strips(rank)[half].row) << "of W, too";
        }
      }
    }
  }
  EXPECT_THROW((void)SequenceRows(37, 2, 4).first(38), c10::Error);
  EXPECT_THROW((void)SequenceRows(37, 2, 4).first(0), c10::Error);
}

TEST(SequenceRows, CausalWorkIsEqualWhereTilesDivide) {
  for (const std::int64_t ranks : {1, 2, 3, 4, 8}) {
    const std::int64_t positions = 2 * ranks * 128 * 3;
    const SequenceRows rows(positions, ranks, sequence_tile(positions, ranks));
    const auto work = [&](std::int64_t rank) {
      return StripProduct{rows.strips(rank), {{{0, positions}, 0}}, Mixing::kCausal}.multiplied();
    };
    for (std::int64_t rank = 1; rank < ranks; ++rank) EXPECT_EQ(work(rank), work(0)) << ranks << " ranks";
  }
}

TEST(SequenceRows, CausalWorkDiffersByATileOtherwise) {
  const std::int64_t positions = 5000;
  for (const std::int64_t ranks : {2, 3, 4}) {
    const SequenceRows rows(positions, ranks, 128);
    std::vector<std::int64_t> work;
    for (std::int64_t rank = 0; rank < ranks; ++rank) {
      std::int64_t pairs = 0;
      for (const std::int64_t position : rows.held(rank)) pairs += position + 1;
      work.push_back(pairs);
    }
    const auto [least, most] = std::ranges::minmax(work);
    EXPECT_LE(most - least, 128 * positions) << ranks << " ranks: no more than a tile of whole rows";
  }
}

TEST(SequenceRows, ARankWithoutPositionsIsRefused) {
  EXPECT_THROW(SequenceRows(8, 3, 4), c10::Error);
  EXPECT_THROW(SequenceRows(3, 4, 1), c10::Error);
  EXPECT_NO_THROW(SequenceRows(9, 3, 4));
  EXPECT_EQ(sequence_tile(8192, 2), 128);
  EXPECT_EQ(sequence_tile(8, 2), 2);
  EXPECT_EQ(sequence_tile(5, 4), 1);
}

}  // namespace
}  // namespace sluice::kernels
