#include "trainer/cli/eval_positions.h"

#include <gtest/gtest.h>

namespace sluice::cli {
namespace {

const std::vector<train::PositionLoss> kPositions = {{8, 2}, {6, 2}, {5, 2}, {3, 1}, {0, 0}, {2, 1}};

TEST(EvalPositions, AreTakenTogetherByPowersOfTwo) {
  const auto spans = spans_of(kPositions);
  ASSERT_EQ(spans.size(), 4U);
  EXPECT_EQ(spans[0].last, 0);
  EXPECT_EQ(spans[1].first, 1);
  EXPECT_EQ(spans[1].last, 1);
  EXPECT_EQ(spans[2].first, 2);
  EXPECT_EQ(spans[2].last, 3);
  EXPECT_DOUBLE_EQ(spans[2].loss.mean(), 8.0 / 3) << "each target counts alike";
  EXPECT_EQ(spans[3].first, 4);
  EXPECT_EQ(spans[3].last, 5) << "as far as there are positions";
  EXPECT_EQ(spans[3].loss.targets, 1);
  EXPECT_TRUE(spans_of({}).empty());
}

TEST(EvalPositions, AFileHasALineForEachEvenWithoutTargets) {
  EXPECT_EQ(position_csv(kPositions), "position,predicted,loss\n0,2,4\n1,2,3\n2,2,2.5\n3,1,3\n4,0,\n5,1,2\n");
}

TEST(EvalPositions, ATableShowsWhatEachSpanGainsOverTheOneBefore) {
  const std::string table = position_table(spans_of(kPositions));
  EXPECT_NE(table.find("2 to 3              3     2.6667    -0.3333"), std::string::npos) << table;
}

}  // namespace
}  // namespace sluice::cli
