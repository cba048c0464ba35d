#include "trainer/study/fit/fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/study/fit/synthetic.h"

namespace sluice::study {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

void expect_within(double found, double truth, double share) {
  EXPECT_NEAR(found / truth, 1.0, share) << found << " for " << truth;
}

TEST(Fit, RecoversThePublishedLawFromANoiseFreeGrid) {
  const Law truth = chinchilla();
  const auto points = grid(truth, ladder(5e7, 1.6e10, 6), ladder(1e9, 1e12, 6));
  const Fit fit = fit_loss(points, {.form = Form::kParamsTokens, .resamples = 50});
  ASSERT_THAT(fit.refusal, IsEmpty());
  expect_within(fit.law.floor, truth.floor, 0.01);
  for (std::size_t t = 0; t < 2; ++t) {
    expect_within(fit.law.scale[t], truth.scale[t], 0.01);
    expect_within(fit.law.exponent[t], truth.exponent[t], 0.01);
  }
  expect_within(fit.derived[0].value, 0.28 / 0.62, 0.01);
  EXPECT_EQ(fit.cells, 36);
  expect_within(fit.held_out.predicted, fit.held_out.measured, 1e-4);
  for (const auto& row : fit.rows) EXPECT_NEAR(row.residual(), 0.0, 1e-6);
}

TEST(Fit, RecoversALawOfSizeTokensAndComputeWithin1Percent) {
  const Law truth{.terms = 1, .floor = 1.9, .scale = {250.0, 0.0}, .exponent = {0.31, 0.0}};
  std::vector<Point> points;
  for (const double x : ladder(1e6, 1e10, 7)) {
    Point one = point("", x, x, truth.at(x), std::to_string(x));
    one.flops = x;
    points.push_back(one);
  }
  for (const Form form : {Form::kParams, Form::kTokens, Form::kCompute}) {
    auto varied = points;  // what must be equal is unknown
    for (auto& one : varied) (form == Form::kTokens ? one.params : one.tokens) = Point::kUnknown;
    const Fit fit = fit_loss(varied, {.form = form, .resamples = 20});
    ASSERT_THAT(fit.refusal, IsEmpty()) << name_of(form);
    expect_within(fit.law.floor, truth.floor, 0.01);
    expect_within(fit.law.scale[0], truth.scale[0], 0.01);
    expect_within(fit.law.exponent[0], truth.exponent[0], 0.01);
    EXPECT_GT(fit.agreeing, 0);
  }
}

TEST(Fit, ExponentsAreRecoveredWithin1PercentFromSmallNoise) {
  const Law truth = chinchilla();
  auto points = grid(truth, ladder(1e7, 1.6e10, 8), ladder(1e8, 1e12, 8));
  Noise noise(5, 0.0005);
  for (auto& one : points) one.loss *= std::exp(noise.next());
  const Fit fit = fit_loss(points, {.form = Form::kParamsTokens, .resamples = 0});
  ASSERT_THAT(fit.refusal, IsEmpty());
  expect_within(fit.law.exponent[0], truth.exponent[0], 0.01);
  expect_within(fit.law.exponent[1], truth.exponent[1], 0.01);
}

TEST(Fit, AnOutlierCountsLinearly) {
  const Law truth = chinchilla();
  auto points = grid(truth, ladder(5e7, 1.6e10, 6), ladder(1e9, 1e12, 6));
  points[7].loss *= 1.3;  // a run that diverged late
  const Fit fit = fit_loss(points, {.form = Form::kParamsTokens, .resamples = 0});
  expect_within(fit.law.exponent[0], truth.exponent[0], 0.02);
  expect_within(fit.law.exponent[1], truth.exponent[1], 0.02);
}

TEST(Fit, TheSliceWithMostSizesIsTaken) {
  auto points = grid(chinchilla(), ladder(1e7, 1e9, 4), {1e9, 1.02e9});
  for (const auto& one : grid(chinchilla(), ladder(1e7, 1e9, 6), {2e10})) points.push_back(one);
  const Fit sizes = fit_loss(points, {.form = Form::kParams, .resamples = 0});
  EXPECT_EQ(sizes.rows_note, "D = 2e+10");
  EXPECT_EQ(sizes.rows.size(), 6U);
  const Fit none = fit_loss(points, {.form = Form::kTokens, .resamples = 0});
  EXPECT_EQ(none.rows_note, "N = 1e+09");
}

TEST(Fit, TheFrontierLeavesOutCellsThatAreWorseForNoFewerFlops) {
  std::vector<Point> points;
  const Law truth{.terms = 1, .floor = 2.0, .scale = {900.0, 0.0}, .exponent = {0.15, 0.0}};
  for (const double c : ladder(1e15, 1e20, 6)) {
    Point best = point("", 1e7, c, truth.at(c), "best " + std::to_string(c));
    Point worse = point("", 9e7, c, truth.at(c) * 1.05, "worse " + std::to_string(c));
    best.flops = c;
    worse.flops = 1.001 * c;
    points.push_back(best);
    points.push_back(worse);
  }
  const Fit fit = fit_loss(points, {.form = Form::kCompute, .resamples = 0});
  ASSERT_THAT(fit.refusal, IsEmpty());
  EXPECT_EQ(fit.rows.size(), 6U);
  expect_within(fit.law.exponent[0], 0.15, 0.01);
}

TEST(Fit, TrunksThatAreDrawnWholeGiveWiderIntervalsThanTheirBranchesWould) {
  auto points = grid(chinchilla(), ladder(1e7, 1e9, 8), ladder(1e9, 1e11, 6));
  Noise noise(4, 0.004);
  for (std::size_t i = 0; i < points.size(); i += 6) {
    const double common = std::exp(noise.next());  // of a size's run, from which its budgets branch
    for (std::size_t k = i; k < i + 6; ++k) {
      points[k].loss *= common;
      points[k].unit = "trunk " + std::to_string(i);
    }
  }
  const FitOptions options{.form = Form::kParamsTokens, .resamples = 200};
  const Fit trunks = fit_loss(points, options);
  for (std::size_t i = 0; i < points.size(); ++i) points[i].unit = std::to_string(i);
  const Fit branches = fit_loss(points, options);
  EXPECT_EQ(trunks.units, 8);
  EXPECT_EQ(branches.units, 48);
  EXPECT_EQ(trunks.law.exponent[0], branches.law.exponent[0]);
  const auto width = [](const Estimate& one) { return one.interval.high - one.interval.low; };
  EXPECT_GT(width(trunks.parameters[2]), 1.5 * width(branches.parameters[2]));
}

TEST(Fit, TheSameInputGivesTheSameIntervals) {
  auto points = grid(chinchilla(), ladder(1e7, 1e9, 4), ladder(1e9, 1e11, 4));
  Noise noise(9, 0.002);
  for (auto& one : points) one.loss *= std::exp(noise.next());
  const FitOptions options{.form = Form::kParamsTokens, .resamples = 30};
  const Fit first = fit_loss(points, options);
  const Fit again = fit_loss(points, options);
  for (std::size_t i = 0; i < first.parameters.size(); ++i) {
    EXPECT_EQ(first.parameters[i].interval.low, again.parameters[i].interval.low);
    EXPECT_EQ(first.parameters[i].interval.high, again.parameters[i].interval.high);
  }
}

TEST(Fit, LearningRatesOfTwoSizesGiveALineAndOfFourIntervals) {
  const Law truth{.terms = 1, .floor = 0.0, .scale = {0.5, 0.0}, .exponent = {0.3, 0.0}};
  const auto optimum = [&](double n) { return RateOptimum{"f", n, truth.at(n)}; };
  const Fit two = fit_rate({optimum(1e6), optimum(1e8)}, {});
  ASSERT_THAT(two.refusal, IsEmpty());
  expect_within(two.law.at(1e10), truth.at(1e10), 1e-6);
  EXPECT_TRUE(std::isnan(two.parameters[1].interval.low));
  EXPECT_THAT(two.warnings, testing::Contains(HasSubstr("two sizes exactly")));
  const Fit four = fit_rate({optimum(1e6), optimum(1e7), optimum(1e8), optimum(1e9)}, {.resamples = 50});
  expect_within(four.parameters[1].interval.low, 0.3, 1e-3);
  EXPECT_THAT(fit_rate({optimum(1e6)}, {}).refusal, HasSubstr("too few cells"));
}

}  // namespace
}  // namespace sluice::study
