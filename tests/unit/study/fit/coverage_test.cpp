#include <gtest/gtest.h>

#include "tests/unit/study/fit/synthetic.h"
#include "trainer/study/fit/fit.h"

// How often 95 % intervals hold the truth, over 400 fixed draws of noise.

namespace sluice::study {
namespace {

constexpr int kDraws = 400;
constexpr int kLeast = 368;  // 0.92 of them

struct Truth {
  const char* name;
  double value;
};

/// Counts draws whose interval holds the truth, for each parameter and derived number.
class Covered {
 public:
  explicit Covered(std::vector<Truth> truths) : truths_(std::move(truths)), counts_(truths_.size(), 0) {}

  void add(const Fit& fit) {
    ASSERT_EQ(fit.refusal, "");
    auto estimates = fit.parameters;
    estimates.insert(estimates.end(), fit.derived.begin(), fit.derived.end());
    ASSERT_GE(estimates.size(), truths_.size());
    for (std::size_t i = 0; i < truths_.size(); ++i) {
      ASSERT_EQ(estimates[i].name, truths_[i].name);
      const Interval& interval = estimates[i].interval;
      counts_[i] += interval.low <= truths_[i].value && truths_[i].value <= interval.high ? 1 : 0;
    }
  }

  void expect() const {
    for (std::size_t i = 0; i < truths_.size(); ++i) {
      ::testing::Test::RecordProperty(std::string("covered_") + static_cast<char>('0' + i), counts_[i]);
      EXPECT_GE(counts_[i], kLeast) << truths_[i].name;
    }
  }

 private:
  std::vector<Truth> truths_;
  std::vector<int> counts_;
};

TEST(Coverage, LossOfSizeFromRunsOfTheirOwn) {
  const Law truth{.terms = 1, .floor = 1.7, .scale = {400.0, 0.0}, .exponent = {0.34, 0.0}};
  Covered covered({{"E", 1.7}, {"A", 400.0}, {"a", 0.34}});
  for (std::uint64_t draw = 0; draw < kDraws; ++draw) {
    Noise noise(draw, 0.003);
    std::vector<Point> points;
    for (const double n : ladder(1e6, 1e9, 8))
      for (int seed = 0; seed < 3; ++seed)
        points.push_back(
            point("", n, 1e10, truth.at(n) * std::exp(noise.next()), std::to_string(points.size())));
    covered.add(fit_loss(points, {.form = Form::kParams, .resamples = 100, .seed = draw}));
  }
  covered.expect();
}

/// Branches of a trunk share most of their noise: five sizes, two seeds, four budgets.
TEST(Coverage, LossOfSizeAndTokensFromBranchesOfTrunks) {
  const Law truth = chinchilla();
  Covered covered(
      {{"E", 1.69}, {"A", 406.4}, {"a", 0.34}, {"B", 410.7}, {"b", 0.28}, {"b/(a+b)", 0.28 / 0.62}});
  for (std::uint64_t draw = 0; draw < kDraws; ++draw) {
    Noise noise(draw, 1.0);
    std::vector<Point> points;
    for (const double n : ladder(1e7, 1e9, 5))
      for (int seed = 0; seed < 2; ++seed) {
        const double common = 0.003 * noise.next();
        const std::string trunk = std::to_string(n) + " " + std::to_string(seed);
        for (const double d : ladder(1e9, 3e10, 4))
          points.push_back(point("", n, d, truth.at(n, d) * std::exp(common + 0.001 * noise.next()), trunk));
      }
    covered.add(fit_loss(points, {.form = Form::kParamsTokens, .resamples = 100, .seed = draw}));
  }
  covered.expect();
}

}  // namespace
}  // namespace sluice::study
