#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/study/fit/synthetic.h"
#include "trainer/study/fit/fit.h"

// What fits say where the rows cannot carry them, or only just.

namespace sluice::study {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<Point> sizes(const Law& law, const std::vector<double>& params) {
  std::vector<Point> points;
  for (const double n : params) points.push_back(point("f", n, 1e9, law.at(n), std::to_string(n)));
  return points;
}

const Law kLaw{.terms = 1, .floor = 2.0, .scale = {300.0, 0.0}, .exponent = {0.35, 0.0}};

TEST(Refusal, TooFewCellsForTheParameters) {
  const Fit fit = fit_loss(sizes(kLaw, ladder(1e6, 1e9, 3)), {.form = Form::kParams});
  EXPECT_EQ(fit.refusal, "too few cells: 3 different N, and 3 parameters need at least 4");
  EXPECT_TRUE(fit.parameters.empty());
  EXPECT_TRUE(
      fit_loss(sizes(kLaw, ladder(1e6, 1e9, 3)), {.form = Form::kParams, .floor = Floor::kZero}).carried());
}

TEST(Refusal, SeedsOfACellAreOneCell) {
  auto points = sizes(kLaw, ladder(1e6, 1e9, 3));
  for (const auto& one : sizes(kLaw, ladder(1e6, 1e9, 3))) points.push_back(one);
  EXPECT_THAT(fit_loss(points, {.form = Form::kParams}).refusal, HasSubstr("3 different N"));
}

TEST(Refusal, OneBudgetSaysNothingOfTokens) {
  std::vector<Point> points;
  for (const auto& one : grid(chinchilla(), ladder(1e7, 1e9, 6), {1e9, 2e9})) points.push_back(one);
  EXPECT_EQ(fit_loss(points, {.form = Form::kParamsTokens}).refusal,
            "too few cells: 6 different N and 2 different D, each exponent needs at least 3");
}

TEST(Refusal, AnExponentAtItsBound) {
  // Nearly flat; and only the smallest size is worse than the others.
  const Law flat{.terms = 1, .floor = 0.0, .scale = {3.0, 0.0}, .exponent = {0.005, 0.0}};
  EXPECT_THAT(fit_loss(sizes(flat, ladder(1e6, 1e9, 8)), {.form = Form::kParams}).refusal,
              HasSubstr("the exponent a ran to its bound 0.01"));
  const Law steep{.terms = 1, .floor = 2.0, .scale = {1e36, 0.0}, .exponent = {6.0, 0.0}};
  EXPECT_THAT(fit_loss(sizes(steep, ladder(1e6, 1e7, 8)), {.form = Form::kParams}).refusal,
              HasSubstr("the exponent a ran to its bound 3"));
}

TEST(Refusal, ColumnsThatAreNotThere) {
  auto points = sizes(kLaw, ladder(1e6, 1e9, 5));
  EXPECT_EQ(fit_loss(points, {.form = Form::kParams, .count = Count::kNoSpatial}).refusal,
            "the points do not say N without spatial weights");
  for (auto& one : points) one.flops = Point::kUnknown;
  EXPECT_EQ(fit_loss(points, {.form = Form::kCompute}).refusal, "the points do not say flops");
}

TEST(Refusal, OneTrunkGivesALawAndNoIntervals) {
  auto points = grid(chinchilla(), ladder(1e7, 1e9, 4), ladder(1e9, 1e11, 4));
  for (auto& one : points) one.unit = "the only one";
  const Fit fit = fit_loss(points, {.form = Form::kParamsTokens, .resamples = 20});
  EXPECT_THAT(fit.refusal, IsEmpty());
  EXPECT_EQ(fit.units, 1);
  EXPECT_THAT(fit.warnings, Contains(HasSubstr("no intervals: 1 trunks or runs")));
  for (const auto& one : fit.parameters) EXPECT_TRUE(std::isnan(one.interval.low)) << one.name;
}

TEST(Warnings, CellsAboveOneEpochAreCounted) {
  auto points = sizes(kLaw, ladder(1e6, 1e9, 6));
  points[0].epochs = 4.0;
  points[1].unique_tokens = 1e8;
  const Fit fit = fit_loss(points, {.form = Form::kParams, .resamples = 0});
  EXPECT_THAT(fit.warnings, Contains(HasSubstr("2 of 6 rows are above one epoch")));
}

TEST(Warnings, AShortRangeAndAnAbsentFloor) {
  EXPECT_THAT(fit_loss(sizes(kLaw, ladder(1e8, 3e8, 6)), {.form = Form::kParams, .resamples = 0}).warnings,
              Contains(HasSubstr("N spans a factor of 3 alone")));
  const Law line{.terms = 1, .floor = 0.0, .scale = {30.0, 0.0}, .exponent = {0.12, 0.0}};
  EXPECT_THAT(fit_loss(sizes(line, ladder(1e6, 1e9, 6)), {.form = Form::kParams, .resamples = 0}).warnings,
              Contains(HasSubstr("E is not told from zero")));
}

TEST(HeldOut, TooFewRestsAreRefused) {
  const Fit fit = fit_loss(sizes(kLaw, ladder(1e6, 1e9, 4)), {.form = Form::kParams, .resamples = 0});
  EXPECT_THAT(fit.held_out.refusal, IsEmpty());
  EXPECT_NEAR(fit.held_out.error(), 0.0, 1e-3);
  const Fit line =
      fit_loss(sizes(kLaw, {1e6, 1e7, 1e8}), {.form = Form::kParams, .floor = Floor::kZero, .resamples = 0});
  EXPECT_THAT(line.held_out.refusal, IsEmpty());
  EXPECT_LT(line.held_out.error(), -0.01);  // a straight line falls on where the law has a floor
}

}  // namespace
}  // namespace sluice::study
