#include "trainer/study/fit/bootstrap.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "trainer/study/fit/polynomial.h"

namespace sluice::study {
namespace {

TEST(Bootstrap, QuantilesOfStudentsTAreThoseOfItsTables) {
  // Abramowitz and Stegun, table 26.10.
  EXPECT_NEAR(student_quantile(0.975, 1), 12.706, 1e-3);
  EXPECT_NEAR(student_quantile(0.975, 2), 4.303, 1e-3);
  EXPECT_NEAR(student_quantile(0.975, 5), 2.571, 1e-3);
  EXPECT_NEAR(student_quantile(0.95, 10), 1.812, 1e-3);
  EXPECT_NEAR(student_quantile(0.995, 30), 2.750, 1e-3);
  EXPECT_NEAR(student_quantile(0.025, 30), -2.042, 1e-3);
  EXPECT_NEAR(student_quantile(0.975, 100000), 1.960, 1e-3);
}

TEST(Bootstrap, SpreadGrowsWithFewUnitsAndVanishesWithMany) {
  EXPECT_NEAR(spread_of(100000, 100000, 3, 0.95), 1.0, 1e-3);
  EXPECT_NEAR(spread_of(4, 4, 3, 0.95), std::sqrt(4.0 / 3.0 * 3.0 / 1.0) * 12.706 / 1.960, 0.01);
  EXPECT_TRUE(std::isinf(spread_of(1, 10, 3, 0.95)));
  EXPECT_TRUE(std::isinf(spread_of(3, 3, 3, 0.95)));
}

TEST(Bootstrap, DrawsUnitsWholeAndAsManyAsThereAre) {
  UnitDraws draws({"a", "a", "b", "c", "b", "a"}, 7);
  ASSERT_EQ(draws.count(), 3);
  double sum_of_a = 0.0;
  for (int i = 0; i < 2000; ++i) {
    const auto weights = draws.next();
    EXPECT_EQ(weights[0], weights[1]);
    EXPECT_EQ(weights[0], weights[5]);
    EXPECT_EQ(weights[2], weights[4]);
    EXPECT_EQ(weights[0] + weights[2] + weights[3], 3.0);
    sum_of_a += weights[0];
  }
  EXPECT_NEAR(sum_of_a / 2000.0, 1.0, 0.06);
}

TEST(Bootstrap, IntervalsAreCentralAndSpreadAboutTheEstimate) {
  std::vector<double> draws(1001);
  std::iota(draws.begin(), draws.end(), 0.0);
  const Interval plain = interval_of(500.0, draws, 1.0, 0.95, Spread::kPlain);
  EXPECT_NEAR(plain.low, 25.0, 1e-9);
  EXPECT_NEAR(plain.high, 975.0, 1e-9);
  EXPECT_NEAR(interval_of(500.0, draws, 2.0, 0.95, Spread::kPlain).low, -450.0, 1e-9);
  const Interval logarithm = interval_of(10.0, {5.0, 10.0, 20.0}, 2.0, 0.9999, Spread::kLogarithm);
  EXPECT_NEAR(logarithm.low, 2.5, 0.01);
  EXPECT_NEAR(logarithm.high, 40.0, 0.1);
}

TEST(Bootstrap, ThereIsNoIntervalWhereTooManyDrawsHaveNoNumber) {
  std::vector<double> draws(100, 1.0);
  for (std::size_t i = 0; i < 10; ++i) draws[i] = NAN;
  EXPECT_EQ(interval_of(1.0, draws, 1.0, 0.95, Spread::kPlain).low, 1.0);
  draws[10] = NAN;
  EXPECT_TRUE(std::isnan(interval_of(1.0, draws, 1.0, 0.95, Spread::kPlain).low));
  EXPECT_TRUE(std::isnan(interval_of(1.0, {}, 1.0, 0.95, Spread::kPlain).low));
}

TEST(Polynomial, GoesThroughItsPointsOrSaysThatTheyAreTooFew) {
  const std::vector<double> x = {-2.0, -1.0, 0.5, 1.0, 3.0};
  std::vector<double> y;
  for (const double one : x) y.push_back(2.0 - one + 0.5 * one * one - 0.25 * one * one * one);
  const auto c = polynomial(x, y, 3);
  ASSERT_EQ(c.size(), 4U);
  const std::vector<double> truth = {2.0, -1.0, 0.5, -0.25};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(c[i], truth[i], 1e-12);
  EXPECT_TRUE(polynomial({1.0, 1.0, 2.0}, {1.0, 2.0, 3.0}, 2).empty());
  // Least squares: the mean of two at one place.
  EXPECT_NEAR(polynomial({0.0, 0.0, 1.0}, {1.0, 3.0, 5.0}, 1)[0], 2.0, 1e-12);
}

}  // namespace
}  // namespace sluice::study
