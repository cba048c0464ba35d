#include "trainer/study/parting.h"

#include <gtest/gtest.h>

#include <limits>

namespace sluice::study {
namespace {

Metrics metrics(std::int64_t first_step, const std::vector<double>& losses) {
  Metrics all;
  for (const double loss : losses) {
    const std::int64_t step = first_step + static_cast<std::int64_t>(all.train.size());
    all.train.push_back({.step = step, .tokens = step * 100, .loss = loss});
  }
  return all;
}

TEST(Parting, IsTheFirstStepWhoseLossIsAnotherNumber) {
  const auto parting =
      parting_of(metrics(1, {4.0, 3.0, 2.0, 1.0, 1.0}), metrics(1, {4.0, 3.0, 2.001, 1.5, 0.9375}));
  EXPECT_EQ(parting.compared, 5);
  ASSERT_TRUE(parting.any && parting.visible && parting.largest && parting.last);
  EXPECT_EQ(parting.any->step, 3);
  EXPECT_NEAR(parting.any->difference(), 0.001, 1e-12);
  EXPECT_EQ(parting.visible->step, 4);  // 0.001 of 2 is less than 0.1 %
  EXPECT_EQ(parting.largest->step, 4);
  EXPECT_DOUBLE_EQ(parting.largest->difference(), 0.5);
  EXPECT_EQ(parting.last->step, 5);
  EXPECT_DOUBLE_EQ(parting.last->difference(), -0.0625);
}

TEST(Parting, EqualRunsNeverPart) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto parting = parting_of(metrics(1, {4.0, nan, 2.0}), metrics(1, {4.0, nan, 2.0}));
  EXPECT_EQ(parting.compared, 3);
  EXPECT_FALSE(parting.any || parting.visible || parting.largest);
}

TEST(Parting, ALossThatIsNotFinitePartsFromANumber) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto parting = parting_of(metrics(1, {4.0, 3.0}), metrics(1, {4.0, nan}));
  ASSERT_TRUE(parting.any && parting.visible);
  EXPECT_EQ(parting.any->step, 2);
  EXPECT_EQ(parting.visible->step, 2);
}

TEST(Parting, StepsAreComparedByNumberAndTokensAreWatched) {
  auto later = metrics(3, {2.0, 1.0});
  const auto parting = parting_of(metrics(1, {4.0, 3.0, 2.0, 1.0}), later);
  EXPECT_EQ(parting.compared, 2);
  EXPECT_FALSE(parting.any);
  EXPECT_TRUE(parting.same_tokens);
  later.train[1].tokens += 1;
  EXPECT_FALSE(parting_of(metrics(1, {4.0, 3.0, 2.0, 1.0}), later).same_tokens);
  EXPECT_EQ(parting_of(metrics(1, {1.0}), metrics(2, {1.0})).compared, 0);
}

}  // namespace
}  // namespace sluice::study
