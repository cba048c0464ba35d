#include "trainer/study/speed_numbers.h"

#include <gtest/gtest.h>

#include <cmath>

#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

SpeedCell cell(const std::string& mode, double ranks, double sp, double tokens_per_s) {
  SpeedCell one{.family = sp > 1.0 ? "gmlp, parallel.sp=2" : "gmlp", .model = "base", .mode = mode};
  one.sp_mode = "ring";
  one.ranks = ranks;
  one.sp = sp;
  one.dp = ranks / sp;
  one.global_batch = mode == "strong" ? 64.0 : 16.0 * ranks;
  one.tokens_per_s = tokens_per_s;
  return one;
}

TEST(SpeedNumbers, SpeedUpEfficiencyAndSerialFractionByHand) {
  const auto curves =
      speed_curves({cell("strong", 4, 1, 2500), cell("strong", 1, 1, 1000), cell("strong", 2, 1, 1600)});
  ASSERT_EQ(curves.size(), 1U);
  EXPECT_EQ(curves[0].label, "");
  const auto& points = curves[0].points;
  ASSERT_EQ(points.size(), 3U);
  EXPECT_DOUBLE_EQ(points[0].speed_up, 1.0);
  EXPECT_TRUE(std::isnan(points[0].serial));
  EXPECT_DOUBLE_EQ(points[1].speed_up, 1.6);
  EXPECT_DOUBLE_EQ(points[1].efficiency, 0.8);
  EXPECT_NEAR(points[1].serial, 0.25, 1e-12);  // (1/1.6 - 1/2) / (1 - 1/2)
  EXPECT_DOUBLE_EQ(points[2].speed_up, 2.5);
  EXPECT_DOUBLE_EQ(points[2].efficiency, 0.625);
  EXPECT_NEAR(points[2].serial, 0.2, 1e-12);  // (0.4 - 0.25) / 0.75
}

TEST(SpeedNumbers, WeakCurvesGrowTheirProblem) {
  const auto curves = speed_curves({cell("weak", 1, 1, 1000), cell("weak", 4, 1, 3700)});
  ASSERT_EQ(curves.size(), 1U);  // 16 and 64 sequences: 16 a rank
  EXPECT_NEAR(curves[0].points[1].efficiency, 0.925, 1e-12);
  EXPECT_NEAR(curves[0].points[1].serial, 0.1, 1e-12);  // (4 - 3.7) / (4 - 1)
}

TEST(SpeedNumbers, RanksThatShareSequencesAreMeasuredAgainstOneThatDoesNot) {
  const auto curves = speed_curves({cell("strong", 1, 1, 1000), cell("strong", 2, 1, 1600),
                                    cell("strong", 2, 2, 1500), cell("strong", 4, 2, 2000)});
  ASSERT_EQ(curves.size(), 3U);
  EXPECT_EQ(curves[0].label, "dp");
  EXPECT_EQ(curves[1].label, "sp ring");
  EXPECT_EQ(curves[2].label, "dp x sp 2 ring");
  ASSERT_EQ(curves[1].points.size(), 2U);
  EXPECT_TRUE(curves[1].points[0].borrowed);
  EXPECT_FALSE(curves[1].points[1].borrowed);
  EXPECT_DOUBLE_EQ(curves[1].points[1].speed_up, 1.5);
  EXPECT_NEAR(curves[1].points[1].serial, 1.0 / 3.0, 1e-12);  // (1/1.5 - 1/2) / (1 - 1/2)
  EXPECT_DOUBLE_EQ(curves[2].points[1].efficiency, 0.5);
}

TEST(SpeedNumbers, FamiliesOfOneModelShareABaseAndOthersHaveTheirOwn) {
  const auto of = [](const char* family, double params, double ranks, double tokens_per_s) {
    auto one = cell("strong", ranks, ranks, tokens_per_s);
    one.family = family;
    one.params = params;
    return one;
  };
  const auto curves =
      speed_curves({of("data", 100, 1, 1000), of("ring", 100, 2, 1500), of("large", 300, 1, 400),
                    of("large", 300, 2, 600), of("other", 200, 2, 900)});
  ASSERT_EQ(curves.size(), 5U);
  EXPECT_DOUBLE_EQ(curves[1].points.back().speed_up, 1.5);
  EXPECT_TRUE(curves[1].points.front().borrowed);
  EXPECT_DOUBLE_EQ(curves[3].points.back().speed_up, 1.5) << "its own single rank";
  EXPECT_DOUBLE_EQ(curves[4].points.back().speed_up, 1.0) << "nothing to be measured against";
}

TEST(SpeedNumbers, WithoutOneRankTheFewestAreTheBase) {
  const auto curves = speed_curves({cell("strong", 2, 1, 1000), cell("strong", 8, 1, 3000)});
  EXPECT_DOUBLE_EQ(curves[0].points[1].speed_up, 3.0);
  EXPECT_DOUBLE_EQ(curves[0].points[1].efficiency, 0.75);
  EXPECT_NEAR(curves[0].points[1].serial, 1.0 / 9.0, 1e-12);  // (1/3 - 1/4) / (1 - 1/4)
}

TEST(SpeedNumbers, CurvesAreOfOneProblem) {
  auto other = cell("strong", 2, 1, 1500);
  other.global_batch = 128;
  auto longer = cell("strong", 2, 1, 700);
  longer.seq_len = 4096;
  const auto curves = speed_curves({cell("strong", 1, 1, 1000), other, longer, cell("weak", 1, 1, 1000)});
  ASSERT_EQ(curves.size(), 4U);
  EXPECT_EQ(curves[0].label, "batch 64");
  EXPECT_EQ(curves[1].label, "batch 128");
  EXPECT_EQ(curves[2].label, "n 4096, batch 64");
  EXPECT_EQ(curves[3].label, "");  // the only weak one
  for (const auto& curve : curves) EXPECT_DOUBLE_EQ(curve.points[0].speed_up, 1.0);
}

TEST(SpeedNumbers, CausesAddUpToTheStep) {
  SpeedCell one;
  one.step_s = 1.0;
  one.comm_exposed_s = 0.25;
  one.data_wait_s = 0.125;
  EXPECT_DOUBLE_EQ(one.compute_s(), 0.625);  // not told apart: what the others leave
  EXPECT_DOUBLE_EQ(one.other_s(), 0.0);
  one.forward_s = 0.125;
  one.backward_s = 0.25;
  one.optimizer_s = 0.0625;
  EXPECT_DOUBLE_EQ(one.compute_s(), 0.4375);
  EXPECT_DOUBLE_EQ(one.other_s(), 0.1875);
  one.rank_step_s_min = 0.75;
  one.rank_step_s_max = 1.0;
  EXPECT_DOUBLE_EQ(one.rank_spread(), 0.25);
  one.predicted_step_s = 1.125;
  EXPECT_DOUBLE_EQ(one.step_error(), 0.125);
}

TEST(SpeedNumbers, AModeThatIsNeitherIsNamed) {
  const auto table = parse_csv("mode,ranks\nstrong,1\nmedium,2\n", "speed.csv");
  try {
    (void)speed_cells(table);
    FAIL() << "no exception";
  } catch (const train::InputError& error) {
    EXPECT_STREQ(error.what(), "speed.csv, line 3, column mode: 'medium': must be strong or weak");
  }
}

}  // namespace
}  // namespace sluice::study
