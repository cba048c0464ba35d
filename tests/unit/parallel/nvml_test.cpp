#include "parallel/nvml.h"

#include <gtest/gtest.h>

namespace sluice::parallel {
namespace {

constexpr const char* kAddress = "0000:3B:00.0";

TEST(PowerMeter, ReadsWattsAndJoulesThroughTheLibrary) {
  const auto meter = PowerMeter::open(kAddress, SLUICE_FAKE_NVML);
  ASSERT_NE(meter, nullptr);
  EXPECT_DOUBLE_EQ(meter->power_w().value(), 512.5);
  const double before = meter->energy_j().value();
  EXPECT_GT(before, 7e9);
  EXPECT_DOUBLE_EQ(meter->energy_j().value() - before, 0.25);
}

TEST(PowerMeter, OfAGpuThatDoesNotCountEnergyStillHasPower) {
  const auto meter = PowerMeter::open(kAddress, SLUICE_FAKE_NVML_WITHOUT_ENERGY);
  ASSERT_NE(meter, nullptr);
  EXPECT_TRUE(meter->power_w());
  EXPECT_FALSE(meter->energy_j());
}

TEST(PowerMeter, IsAbsentWithoutLibraryOrGpu) {
  EXPECT_EQ(PowerMeter::open(kAddress, "libsluice-no-such-library.so.1"), nullptr);
  EXPECT_EQ(PowerMeter::open("0000:FF:00.0", SLUICE_FAKE_NVML), nullptr);
  EXPECT_EQ(PowerMeter::open("", SLUICE_FAKE_NVML), nullptr);
  EXPECT_EQ(PowerMeter::open(kAddress, "libdl.so.2"), nullptr) << "a library without NVML's functions";
}

TEST(PowerMeter, ManyMayBeOpenAndNoneIsLeftOpen) {
  // The counting library refuses a shutdown too many, and whatever comes before an init.
  auto first = PowerMeter::open(kAddress, SLUICE_FAKE_NVML);
  const auto second = PowerMeter::open(kAddress, SLUICE_FAKE_NVML);
  first.reset();
  EXPECT_TRUE(second->power_w());
}

}  // namespace
}  // namespace sluice::parallel
