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

}  // namespace
}  // namespace sluice::study
