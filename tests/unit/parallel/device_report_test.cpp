#include <gtest/gtest.h>

#include "parallel/device.h"

namespace sluice::parallel {
namespace {

/// True in every build and on every machine: what cannot be found is empty, not an error.
TEST(DeviceReport, IsEmptyWhereThereIsNothing) {
  const DeviceReport report = report_devices();
  EXPECT_TRUE(report.built_with_cuda || report.cuda_runtime.empty());
  EXPECT_TRUE(report.built_with_cuda || report.nccl.empty());
  EXPECT_TRUE(report.gpus.empty() || !report.cuda_driver.empty());
}

}  // namespace
}  // namespace sluice::parallel
