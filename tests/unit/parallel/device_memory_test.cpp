#include "parallel/device_memory.h"

#include <gtest/gtest.h>

#include <vector>

namespace sluice::parallel {
namespace {

TEST(DeviceMemory, OfTheCpuIsThePeakOfTheProcess) {
  const auto before = peak_memory(c10::Device(c10::kCPU));
  constexpr std::size_t kBytes = std::size_t{64} << 20;
  {
    const std::vector<char> touched(kBytes, 1);
    EXPECT_EQ(touched.back(), 1);
  }
  const auto after = peak_memory(c10::Device(c10::kCPU));
  EXPECT_GE(after.allocated_peak, static_cast<std::int64_t>(kBytes));
  EXPECT_GE(after.allocated_peak, before.allocated_peak);
  EXPECT_EQ(after.allocated_peak, after.reserved_peak);
  reset_peak_memory(c10::Device(c10::kCPU));
  EXPECT_GE(peak_memory(c10::Device(c10::kCPU)).allocated_peak, after.allocated_peak);
}

}  // namespace
}  // namespace sluice::parallel
