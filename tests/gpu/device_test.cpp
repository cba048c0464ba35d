#include "parallel/device.h"

#include <ATen/ops/arange.h>
#include <gtest/gtest.h>

#include "tests/support/gpu.h"

namespace sluice::tests {
namespace {

TEST(Device, NamesItsGpusAndLibraries) {
  SLUICE_NEEDS_GPU();
  const auto report = parallel::report_devices();
  for (const std::string& name : report.gpus) EXPECT_FALSE(name.empty());
  EXPECT_NE(report.cuda_runtime.find('.'), std::string::npos) << report.cuda_runtime;
  EXPECT_NE(report.cuda_driver.find('.'), std::string::npos) << report.cuda_driver;
  EXPECT_NE(report.nccl.find('.'), std::string::npos) << report.nccl;
}

TEST(Device, RunsAnOperator) {
  SLUICE_NEEDS_GPU();
  const at::Tensor squares =
      at::arange(1000, at::TensorOptions().dtype(at::kDouble).device(at::kCUDA)).square();
  EXPECT_TRUE(squares.is_cuda());
  EXPECT_EQ(squares.sum().item<double>(), 999.0 * 1000.0 * 1999.0 / 6.0);
}

}  // namespace
}  // namespace sluice::tests
