#include "trainer/optim/schedule.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <numbers>
#include <stdexcept>
#include <string>

namespace sluice::optim {
namespace {

OptimOptions with(const std::string& schedule, std::int64_t warmup_steps) {
  OptimOptions options;
  options.lr = 2.0;
  options.min_lr = 0.1;
  options.schedule = schedule;
  options.warmup_steps = warmup_steps;
  return options;
}

double rate(const OptimOptions& options, std::int64_t step, std::int64_t total) {
  return learning_rate(options, 512, step, total);
}

TEST(Schedule, WarmsUpInEqualSteps) {
  for (const char* name : {"constant", "linear", "cosine", "wsd"}) {
    const OptimOptions options = with(name, 4);
    EXPECT_DOUBLE_EQ(rate(options, 0, 100), 0.5) << name;
    EXPECT_DOUBLE_EQ(rate(options, 1, 100), 1.0) << name;
    EXPECT_DOUBLE_EQ(rate(options, 3, 100), 2.0) << name;
    EXPECT_DOUBLE_EQ(rate(options, 4, 100), 2.0) << name;
  }
}

TEST(Schedule, EndsWhereItIsAsked) {
  for (const char* name : {"linear", "cosine", "wsd"}) {
    for (const std::int64_t warmup : {0, 7}) {
      EXPECT_DOUBLE_EQ(rate(with(name, warmup), warmup, 100), 2.0) << name;
      EXPECT_NEAR(rate(with(name, warmup), 99, 100), 0.2, 1e-12) << name;
      EXPECT_NEAR(rate(with(name, warmup), 100, 100), 0.2, 1e-12) << name;
      EXPECT_NEAR(rate(with(name, warmup), 5000, 100), 0.2, 1e-12) << name;
    }
  }
  EXPECT_DOUBLE_EQ(rate(with("constant", 7), 99, 100), 2.0);
}

TEST(Schedule, FollowsItsFormulaBetweenTheEnds) {
  const OptimOptions linear = with("linear", 10);
  const OptimOptions cosine = with("cosine", 10);
  for (std::int64_t step = 10; step < 111; ++step) {
    const double share = static_cast<double>(step - 10) / 100.0;
    EXPECT_NEAR(rate(linear, step, 111), 2.0 - 1.8 * share, 1e-12);
    EXPECT_NEAR(rate(cosine, step, 111), 0.2 + 0.9 * (1 + std::cos(std::numbers::pi * share)), 1e-12);
  }
}

TEST(Schedule, WsdStaysStableThenFallsOverTheLastFifth) {
  const OptimOptions wsd = with("wsd", 5);
  EXPECT_EQ(decay_begin(wsd, 100), 80);
  for (std::int64_t step = 5; step < 80; ++step) EXPECT_EQ(rate(wsd, step, 100), 2.0);
  for (std::int64_t step = 80; step < 100; ++step) {
    EXPECT_NEAR(rate(wsd, step, 100), 2.0 - 1.8 * static_cast<double>(step - 79) / 20.0, 1e-12);
  }
}

RC_GTEST_PROP(Schedule, DoesNotDependOnTheEndBeforeItsDecayBegins, ()) {
  const auto warmup = *rc::gen::inRange<std::int64_t>(0, 30);
  const auto total = *rc::gen::inRange<std::int64_t>(1, 300);
  const auto longer = total + *rc::gen::inRange<std::int64_t>(0, 300);
  const OptimOptions options =
      with(*rc::gen::element<std::string>("constant", "linear", "cosine", "wsd", "noam"), warmup);
  for (std::int64_t step = 0; step < decay_begin(options, total); ++step) {
    RC_ASSERT(rate(options, step, total) == rate(options, step, longer));
  }
}

RC_GTEST_PROP(Schedule, IsPositiveAndNeverAboveItsPeak, ()) {
  const auto warmup = *rc::gen::inRange<std::int64_t>(0, 400);
  const auto total = *rc::gen::inRange<std::int64_t>(1, 300);
  const OptimOptions options =
      with(*rc::gen::element<std::string>("constant", "linear", "cosine", "wsd"), warmup);
  for (std::int64_t step = 0; step < total; ++step) {
    RC_ASSERT(rate(options, step, total) > 0.0);
    RC_ASSERT(rate(options, step, total) <= 2.0);
  }
}

TEST(Schedule, NoamIsTheInverseSquareRoot) {
  OptimOptions noam = with("noam", 2000);
  noam.lr = 1.0;  // the labml experiment's: d_model 512, 15,744 steps
  EXPECT_NEAR(rate(noam, 0, 1), 1 / std::sqrt(512.0) / std::pow(2000.0, 1.5), 1e-18);
  EXPECT_NEAR(rate(noam, 1999, 1), 9.882e-4, 1e-7);
  EXPECT_NEAR(rate(noam, 15743, 1), 3.522e-4, 1e-7);
  noam.warmup_steps = 0;
  EXPECT_NEAR(rate(noam, 8, 1), 1 / std::sqrt(512.0) / 3.0, 1e-15);
}

TEST(Schedule, RefusesUnknownNamesAndNegativeSteps) {
  EXPECT_THROW((void)rate(with("step", 0), 0, 10), std::invalid_argument);
  EXPECT_THROW((void)rate(with("cosine", 0), -1, 10), std::invalid_argument);
}

}  // namespace
}  // namespace sluice::optim
