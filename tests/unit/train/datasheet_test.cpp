#include "trainer/train/datasheet.h"

#include <gtest/gtest.h>

namespace sluice::train {
namespace {

TEST(Datasheet, KnowsTheDensePeaksOfWholeNames) {
  struct Known {
    const char* name;
    double bf16;
    double tf32;
    double fp32;
  };
  for (const Known& known :
       {Known{"NVIDIA H100 80GB HBM3", 989.4e12, 494.7e12, 66.9e12},
        Known{"NVIDIA H100 PCIe", 756e12, 378e12, 51.2e12}, Known{"NVIDIA H200", 989.4e12, 494.7e12, 66.9e12},
        Known{"NVIDIA A100-SXM4-80GB", 312e12, 156e12, 19.5e12},
        Known{"NVIDIA A100 80GB PCIe", 312e12, 156e12, 19.5e12},
        Known{"NVIDIA L40S", 362e12, 183e12, 91.6e12},
        Known{"NVIDIA GeForce RTX 4090", 165.2e12, 82.6e12, 82.6e12},
        Known{"NVIDIA B200", 2250e12, 1125e12, 75e12}}) {
    const auto peak = datasheet_peak(known.name);
    ASSERT_TRUE(peak) << known.name;
    EXPECT_DOUBLE_EQ(peak->bf16, known.bf16) << known.name;
    EXPECT_DOUBLE_EQ(peak->tf32, known.tf32) << known.name;
    EXPECT_DOUBLE_EQ(peak->fp32, known.fp32) << known.name;
  }
}

TEST(Datasheet, SaysNothingOfAnUnknownGpuOrOfASliceOfOne) {
  for (const char* name :
       {"", "NVIDIA H100", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA Tomorrow", "nvidia h200"})
    EXPECT_FALSE(datasheet_peak(name)) << name;
}

TEST(Datasheet, PeakGoesByThePrecisionOfTheProducts) {
  EXPECT_DOUBLE_EQ(datasheet_peak("NVIDIA H200", "bf16").value(), 989.4e12);
  EXPECT_DOUBLE_EQ(datasheet_peak("NVIDIA H200", "tf32").value(), 494.7e12);
  EXPECT_DOUBLE_EQ(datasheet_peak("NVIDIA H200", "fp32").value(), 66.9e12);
  EXPECT_EQ(datasheet_peak("NVIDIA H200", "fp64"), std::nullopt);
  EXPECT_EQ(datasheet_peak("NVIDIA Tomorrow", "bf16"), std::nullopt);
}

}  // namespace
}  // namespace sluice::train
