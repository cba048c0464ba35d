#include "trainer/kernels/gelu.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace sluice::kernels {
namespace {

struct Errors {
  double value = 0;
  double slope = 0;
};

/// Against erfc in float64, relative where the value is above one.
Errors errors_of(Gelu (*gelu)(float)) {
  Errors worst;
  for (int i = -400'000; i <= 400'000; ++i) {
    const float given = static_cast<float>(i) * 1e-4F;
    const double x = given;
    const double below = 0.5 * std::erfc(-x / std::numbers::sqrt2);
    const double density = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
    const Gelu got = gelu(given);
    const double scale = std::max(1.0, std::abs(x * below));
    worst.value = std::max(worst.value, std::abs(static_cast<double>(got.value) - x * below) / scale);
    worst.slope = std::max(worst.slope, std::abs(static_cast<double>(got.slope) - (below + x * density)));
  }
  return worst;
}

/// Against tanh in float64, likewise.
Errors errors_of_tanh(Gelu (*gelu)(float)) {
  Errors worst;
  const double factor = std::sqrt(2 / std::numbers::pi);
  for (int i = -400'000; i <= 400'000; ++i) {
    const float given = static_cast<float>(i) * 1e-4F;
    const double x = given;
    const double bent = std::tanh(factor * (x + 0.044715 * x * x * x));
    const double value = x * (1 + bent) / 2;
    const double slope = (1 + bent) / 2 + x / 2 * (1 - bent * bent) * factor * (1 + 3 * 0.044715 * x * x);
    const Gelu got = gelu(given);
    worst.value = std::max(worst.value,
                           std::abs(static_cast<double>(got.value) - value) / std::max(1.0, std::abs(value)));
    worst.slope = std::max(worst.slope, std::abs(static_cast<double>(got.slope) - slope));
  }
  return worst;
}

TEST(Gelu, ByTanhIsWithinAMillionth) {
  for (Gelu (*const gelu)(float) : {gelu_tanh_fast, gelu_tanh_exact}) {
    const Errors errors = errors_of_tanh(gelu);
    EXPECT_LE(errors.value, 1e-6);
    EXPECT_LE(errors.slope, 2e-6);
  }
}

TEST(Gelu, FastIsWithinAMillionth) {
  const Errors errors = errors_of(gelu_fast);
  EXPECT_LE(errors.value, 5e-7);
  EXPECT_LE(errors.slope, 5e-7);
}

TEST(Gelu, ExactIsWithinRounding) {
  const Errors errors = errors_of(gelu_exact);
  EXPECT_LE(errors.value, 2e-7);
  EXPECT_LE(errors.slope, 2e-7);
}

TEST(Gelu, FarFromZeroIsTheIdentityOrNothing) {
  for (Gelu (*const gelu)(float) : {gelu_fast, gelu_exact, gelu_tanh_fast, gelu_tanh_exact}) {
    for (const float x : {50.0F, 1e4F, 3e38F}) {
      EXPECT_EQ(gelu(x).value, x);
      EXPECT_EQ(gelu(x).slope, 1.0F);
      EXPECT_EQ(gelu(-x).value, 0.0F);
      EXPECT_EQ(gelu(-x).slope, 0.0F);
    }
    EXPECT_EQ(gelu(0).value, 0.0F);
    EXPECT_NEAR(gelu(0).slope, 0.5F, 1e-7F);
    EXPECT_TRUE(std::isnan(gelu(NAN).value));
    EXPECT_TRUE(std::isnan(gelu(NAN).slope));
    EXPECT_TRUE(std::isinf(gelu(INFINITY).value));
  }
}

}  // namespace
}  // namespace sluice::kernels
