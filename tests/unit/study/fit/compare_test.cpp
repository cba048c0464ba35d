#include "trainer/study/fit/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/study/fit/synthetic.h"

namespace sluice::study {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

std::vector<Point> family(const std::string& name, const Law& law, double noise, std::uint64_t seed) {
  Noise random(seed, noise);
  std::vector<Point> points;
  for (const double n : ladder(1e6, 1e9, 8))
    for (int s = 0; s < 2; ++s)
      points.push_back(
          point(name, n, 1e9, law.at(n) * std::exp(random.next()), std::to_string(points.size())));
  return points;
}

void expect_holds(const Estimate& estimate, double truth) {
  EXPECT_LE(estimate.interval.low, truth);
  EXPECT_GE(estimate.interval.high, truth);
}

const Law kFirst{.terms = 1, .floor = 2.0, .scale = {300.0, 0.0}, .exponent = {0.35, 0.0}};

TEST(Compare, FindsTheMultiplierOfFamiliesThatShareAnExponent) {
  // The second family is as good as the first at half its N.
  Law second = kFirst;
  second.scale[0] = kFirst.scale[0] * std::pow(0.5, 0.35);
  const auto both = compare(family("one", kFirst, 0.001, 1), family("two", second, 0.001, 2),
                            {.form = Form::kParams, .resamples = 200});
  ASSERT_THAT(both.refusal, IsEmpty());
  EXPECT_EQ(both.first, "one");
  expect_holds(both.exponent_difference, 0.0);
  expect_holds(both.shared_exponent, 0.35);
  expect_holds(both.shared_multiplier, 0.5);
  EXPECT_NEAR(both.shared_multiplier.value, 0.5, 0.03);
  ASSERT_EQ(both.multipliers.size(), 3U);
  EXPECT_GT(both.multipliers[0].loss, both.multipliers[2].loss);
  for (const auto& multiplier : both.multipliers) expect_holds(multiplier.ratio, 0.5);
  EXPECT_GE(both.shared_objective, both.separate_objective - 1e-9);
}

TEST(Compare, FindsWhereLawsCross) {
  // Equal at N = 3e7: 300 / N^0.35 = scale / N^0.45.
  Law second = kFirst;
  second.exponent[0] = 0.45;
  second.scale[0] = 300.0 * std::pow(3e7, 0.1);
  const auto both = compare(family("one", kFirst, 0.0005, 3), family("two", second, 0.0005, 4),
                            {.form = Form::kParams, .resamples = 200});
  ASSERT_THAT(both.refusal, IsEmpty());
  expect_holds(both.exponent_difference, 0.1);
  EXPECT_GT(both.exponent_difference.interval.low, 0.0);
  expect_holds(both.crossover, 3e7);
  EXPECT_NEAR(both.crossover.value / 3e7, 1.0, 0.1);
  EXPECT_TRUE(both.crossover_measured);
  EXPECT_EQ(both.meeting_share, 1.0);
}

TEST(Compare, ParallelLawsMeetNowhere) {
  Law second = kFirst;
  second.scale[0] = 150.0;
  const auto both = compare(family("one", kFirst, 0.0, 1), family("two", second, 0.0, 1),
                            {.form = Form::kParams, .floor = Floor::kFitted, .resamples = 0});
  ASSERT_THAT(both.refusal, IsEmpty());
  EXPECT_FALSE(both.crossover_measured);
}

TEST(Compare, NamesTheFamilyThatIsTooSmall) {
  auto few = family("few", kFirst, 0.0, 1);
  few.resize(6);
  EXPECT_THAT(compare(family("one", kFirst, 0.0, 1), few, {.form = Form::kParams}).refusal,
              HasSubstr("few: too few cells: 3 different N"));
}

}  // namespace
}  // namespace sluice::study
