#include "trainer/study/curves.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

namespace sluice::study {
namespace {

const double kNaN = std::numeric_limits<double>::quiet_NaN();

TEST(Curves, SmoothingIsTheMeanOfNeighboursAndPassesOverNaN) {
  const auto result = smoothed({8.0, 4.0, kNaN, 6.0, 1.0, 2.0}, 2);
  const std::vector<double> expected = {8.0,                            // the start itself
                                        (8.0 + 4.0) / 2.0,              // one before, one after
                                        (8.0 + 4.0 + 6.0 + 1.0) / 4.0,  //
                                        (4.0 + 6.0 + 1.0 + 2.0) / 4.0,  //
                                        (6.0 + 1.0 + 2.0) / 3.0,        // fewer after the end
                                        (6.0 + 1.0 + 2.0) / 3.0};
  ASSERT_EQ(result.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(result[i], expected[i], 1e-12) << i;
}

TEST(Curves, SmoothingDoesNotLagBehindAStraightLine) {
  std::vector<double> line;
  for (int i = 0; i < 50; ++i) line.push_back(100.0 - i);
  const auto result = smoothed(line, 7);
  for (std::size_t i = 0; i + 7 < line.size(); ++i) EXPECT_NEAR(result[i], line[i], 1e-9) << i;
}

RC_GTEST_PROP(Curves, SmoothingStaysWithinTheValues, ()) {
  const auto raw = *rc::gen::nonEmpty(rc::gen::container<std::vector<double>>(
      rc::gen::map(rc::gen::inRange(-1000, 1000), [](int value) { return value / 10.0; })));
  const auto [low, high] = std::minmax_element(raw.begin(), raw.end());
  for (const double value : smoothed(raw, 3)) {
    RC_ASSERT(value >= *low - 1e-9);
    RC_ASSERT(value <= *high + 1e-9);
  }
}

RC_GTEST_PROP(Curves, ThinningKeepsAtMostSoManyPointsAndTheWholesMean, ()) {
  const auto points = *rc::gen::inRange<std::int64_t>(1, 40);
  const auto runs = *rc::gen::inRange<std::int64_t>(1, 12);
  std::vector<double> values(
      static_cast<std::size_t>(points * runs));  // equal runs: the mean of means is the mean
  std::iota(values.begin(), values.end(), 0.0);
  const auto thin = thinned(values, points);
  RC_ASSERT(static_cast<std::int64_t>(thin.size()) == points);
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  RC_ASSERT(std::abs(std::accumulate(thin.begin(), thin.end(), 0.0) / static_cast<double>(points) - mean) <
            1e-9);
}

TrainRecord record(double step_s, double data_wait_s, double comm_s) {
  return {.step = 1,
          .tokens = 1,
          .step_s = step_s,
          .data_wait_s = data_wait_s,
          .comm_exposed_s = comm_s,
          .forward_s = kNaN,
          .backward_s = kNaN,
          .optimizer_s = kNaN};
}

TEST(Curves, PhasesSumToTheStepsAndNameWhatIsNotToldApart) {
  const auto parts = phases({record(1.0, 0.125, 0.25), record(2.0, 0.125, 0.5)});
  ASSERT_EQ(parts.size(), 3U);
  EXPECT_EQ(parts[0].name, "data wait");
  EXPECT_DOUBLE_EQ(parts[0].seconds, 0.25);
  EXPECT_EQ(parts[1].name, "exposed communication");
  EXPECT_DOUBLE_EQ(parts[1].seconds, 0.75);
  EXPECT_EQ(parts[2].name, "compute and other");
  EXPECT_DOUBLE_EQ(parts[2].seconds, 2.0);
}

TEST(Curves, PhasesTellForwardAndBackwardApartWhereTheyAreLogged) {
  auto one = record(1.0, 0.1, 0.0);
  one.forward_s = 0.3;
  one.backward_s = 0.5;
  one.optimizer_s = 0.05;
  const auto parts = phases({one});
  ASSERT_EQ(parts.size(), 6U);
  EXPECT_EQ(parts[1].name, "forward");
  EXPECT_EQ(parts[2].name, "backward");
  EXPECT_EQ(parts[4].name, "optimizer");
  EXPECT_EQ(parts[5].name, "other");
  EXPECT_NEAR(parts[5].seconds, 0.05, 1e-12);
}

TEST(Curves, TheStackedSharesGrowToAHundred) {
  const auto chart = time_chart({.train = {record(1.0, 0.25, 0.25), record(2.0, 0.5, 0.5)}, .valid = {}});
  ASSERT_EQ(chart.series.size(), 3U);
  for (const double share : chart.series[0].y) EXPECT_DOUBLE_EQ(share, 100.0);
  for (const double share : chart.series[1].y) EXPECT_DOUBLE_EQ(share, 50.0);
  for (const double share : chart.series[2].y) EXPECT_DOUBLE_EQ(share, 25.0);
}

TEST(Curves, TokensAreShownInAUnitThatReads) {
  Metrics metrics;
  metrics.valid = {{.step = 1, .tokens = 3'000'000, .loss = 2.0}};
  const auto chart = loss_chart(metrics);
  EXPECT_EQ(chart.x_label, "tokens seen (millions)");
  ASSERT_EQ(chart.series.size(), 1U);
  EXPECT_DOUBLE_EQ(chart.series[0].x[0], 3.0);
}

TEST(Curves, EachCorpusOfAMixtureHasItsPointsBesideTheMean) {
  Metrics metrics;
  metrics.valid = {{.step = 1, .tokens = 10, .loss = 2.0},
                   {.step = 2, .tokens = 20, .loss = 2.5, .corpora = {{"a", 0.5, 2.0}, {"b", 0.5, 3.0}}}};
  const auto chart = loss_chart(metrics);
  ASSERT_EQ(chart.series.size(), 3U);
  EXPECT_EQ(chart.series[0].label, "valid");
  EXPECT_EQ(chart.series[2].label, "valid, b");
  EXPECT_NE(chart.series[1].colour, chart.series[2].colour);
  EXPECT_TRUE(std::isnan(chart.series[2].y[0]));
  EXPECT_DOUBLE_EQ(chart.series[2].y[1], 3.0);
}

}  // namespace
}  // namespace sluice::study
