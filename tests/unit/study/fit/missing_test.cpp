#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/study/fit/synthetic.h"
#include "trainer/study/fit/compare.h"
#include "trainer/study/fit/fit.h"
#include "trainer/study/fit/iso_flop.h"
#include "trainer/train/errors.h"

// Linked with solver_missing.cpp: what a build without Ceres does.

namespace sluice::study {
namespace {

template <typename Work>
void expect_said(const Work& work) {
  try {
    (void)work();
    FAIL() << "no exception";
  } catch (const train::InputError& error) {
    EXPECT_STREQ(error.what(), why_no_fits().c_str());
  }
}

TEST(WithoutCeres, FitsSayWhatIsMissingAndHowToGetIt) {
  EXPECT_THAT(why_no_fits(), testing::AllOf(testing::HasSubstr("Ceres"), testing::HasSubstr("libceres-dev")));
  const auto points = grid(chinchilla(), ladder(1e7, 1e9, 4), ladder(1e9, 1e11, 4));
  expect_said([&] { return fit_loss(points, {.form = Form::kParamsTokens}); });
  expect_said([&] { return compare(points, points, {.form = Form::kParams}); });
}

TEST(WithoutCeres, ParabolasNeedNone) {
  std::vector<Point> points;
  for (const double n : ladder(1e8, 1e9, 6)) {
    const double d = 1e20 / (6.0 * n);
    points.push_back(point("", n, d, chinchilla().at(n, d), ""));
  }
  EXPECT_EQ(fit_iso_flops(points, {.resamples = 0}).groups.size(), 1U);
}

}  // namespace
}  // namespace sluice::study
