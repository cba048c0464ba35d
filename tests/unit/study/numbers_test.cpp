#include "trainer/study/numbers.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace sluice::study {
namespace {

TEST(Numbers, AreShownInFewDigits) {
  EXPECT_EQ(grouped(1234567.0), "1\u202F234\u202F567");
  EXPECT_EQ(grouped(-123.0), "-123");
  EXPECT_EQ(counted(8190000.0), "8.19 M");
  EXPECT_EQ(counted(999.0), "999");
  EXPECT_EQ(duration(0.25), "250 ms");
  EXPECT_EQ(duration(303.0), "5 min 03 s");
  EXPECT_EQ(duration(7620.0), "2 h 07 min");
  EXPECT_EQ(fixed(2.34567, 2), "2.35");
  EXPECT_EQ(significant(0.00123456, 3), "0.00123");
  EXPECT_EQ(percent(0.97345), "97.3 %");
  EXPECT_EQ(plural(1, "run"), "1 run");
  EXPECT_EQ(plural(2, "run"), "2 runs");
}

TEST(Numbers, WhatIsNoNumberIsADashAndAnEmptyField) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const auto& text :
       {grouped(nan), counted(nan), duration(nan), fixed(nan, 2), significant(nan, 3), percent(nan)})
    EXPECT_EQ(text, "\u2013");
  EXPECT_EQ(exact(nan), "");
}

TEST(Numbers, AFieldReadsBackAsTheSameNumber) {
  for (const double value : {0.1, 1.0 / 3.0, 2.5e-300, 123456789.125, -7.0})
    EXPECT_EQ(std::stod(exact(value)), value);
}

TEST(Numbers, TheMedianPassesOverWhatIsNoNumber) {
  EXPECT_EQ(median_of({3.0, NAN, 1.0, 2.0}), 2.0);
  EXPECT_TRUE(std::isnan(median_of({NAN})));
}

}  // namespace
}  // namespace sluice::study
