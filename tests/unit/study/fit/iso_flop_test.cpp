#include "trainer/study/fit/iso_flop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/study/fit/synthetic.h"

namespace sluice::study {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

/// Where the law is least at C = 6 N D (Hoffmann et al. 2022, section 3.3).
double best_params(const Law& law, double flops) {
  const double a = law.exponent[0];
  const double b = law.exponent[1];
  return std::pow(a * law.scale[0] / (b * law.scale[1]), 1.0 / (a + b)) * std::pow(flops / 6.0, b / (a + b));
}

/// `count` sizes about `middle`, from middle / reach to middle reach, at one C.
std::vector<Point> valley(const Law& law, double flops, double middle, double reach, int count = 9) {
  std::vector<Point> points;
  for (const double n : ladder(middle / reach, middle * reach, count)) {
    const double d = flops / (6.0 * n);
    points.push_back(point("f", n, d, law.at(n, d), std::to_string(n)));
  }
  return points;
}

IsoFlop only_group(const std::vector<Point>& points) {
  const auto iso = fit_iso_flops(points, {.resamples = 50});
  EXPECT_THAT(iso.refusal, IsEmpty());
  EXPECT_EQ(iso.groups.size(), 1U);
  return iso.groups.front();
}

TEST(IsoFlop, ANarrowCentredGridFindsTheMinimumAndHasNothingToSay) {
  const double truth = best_params(chinchilla(), 1e20);
  const auto group = only_group(valley(chinchilla(), 1e20, truth, 3.0));
  EXPECT_THAT(group.refusal, IsEmpty());
  EXPECT_THAT(group.warnings, IsEmpty());
  EXPECT_NEAR(group.best_params.value / truth, 1.0, 0.02);
  EXPECT_NEAR(group.best_tokens, 1e20 / (6.0 * group.best_params.value), 1e-6 * group.best_tokens);
}

TEST(IsoFlop, AWideGridIsBiasedAndSaysSo) {
  const double truth = best_params(chinchilla(), 1e20);
  const auto group = only_group(valley(chinchilla(), 1e20, truth, 100.0));
  EXPECT_GT(std::abs(group.best_params.value / truth - 1.0), 0.1);
  EXPECT_THAT(group.warnings, Contains(HasSubstr("biased: the grid is too wide")));
}

TEST(IsoFlop, AnOffCentreGridIsBiasedAndSaysSo) {
  const double truth = best_params(chinchilla(), 1e20);
  const auto group = only_group(valley(chinchilla(), 1e20, 4.0 * truth, 5.0));
  EXPECT_THAT(group.refusal, IsEmpty());
  EXPECT_GT(std::abs(group.best_params.value / truth - 1.0), 0.03);
  EXPECT_THAT(group.warnings, Contains(HasSubstr("biased: the grid is off-centre")));
}

TEST(IsoFlop, ExponentsOfTheMinimaAreTheLaws) {
  std::vector<Point> points;
  for (const double flops : {1e18, 1e19, 1e20, 1e21})
    for (const auto& one : valley(chinchilla(), flops, best_params(chinchilla(), flops), 3.0))
      points.push_back(one);
  const auto iso = fit_iso_flops(points, {.resamples = 50});
  ASSERT_EQ(iso.groups.size(), 4U);
  ASSERT_EQ(iso.exponents.size(), 2U);
  EXPECT_NEAR(iso.exponents[0].value, 0.28 / 0.62, 1e-3);
  EXPECT_NEAR(iso.exponents[1].value, 0.34 / 0.62, 1e-3);
  EXPECT_NEAR(iso.best_params_law.at(1e20) / best_params(chinchilla(), 1e20), 1.0, 0.02);
}

TEST(IsoFlop, RefusesGridsWithoutAMinimumInsideAndWithFewSizes) {
  const double truth = best_params(chinchilla(), 1e20);
  EXPECT_THAT(only_group(valley(chinchilla(), 1e20, 50.0 * truth, 3.0)).refusal,
              HasSubstr("no interior minimum"));
  EXPECT_THAT(only_group(valley(chinchilla(), 1e20, truth, 3.0, 3)).refusal,
              HasSubstr("too few cells: 3 sizes"));
  const auto none = fit_iso_flops(valley(chinchilla(), 1e20, truth, 3.0, 2), {});
  EXPECT_THAT(none.refusal, HasSubstr("no three sizes"));
}

}  // namespace
}  // namespace sluice::study
