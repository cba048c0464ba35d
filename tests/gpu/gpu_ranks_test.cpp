#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "parallel/device.h"
#include "parallel/link_model.h"
#include "tests/support/gpu.h"
#include "tests/support/gpu_ranks.h"
#include "tests/support/mpi_world.h"

namespace sluice::tests {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(GpuRanks, EachKnowsItsGpu) {
  SLUICE_NEEDS_GPU();
  const parallel::GpuInfo info = parallel::gpu_info(gpu_of_rank());
  RecordProperty("gpu", info.name);
  EXPECT_FALSE(info.name.empty());
  EXPECT_EQ(info.uuid.size(), std::string("GPU-8a56a4bc-08c9-fe42-2e32-9b0c8f4c4a2d").size()) << info.uuid;
  EXPECT_THAT(info.capability, HasSubstr("."));
  EXPECT_GT(info.memory_bytes, std::int64_t{1} << 30);
}

/// The device that this rank gets when sharing is not allowed, or why it gets none.
std::string own_gpu() {
  const char* shared = std::getenv("SLUICE_SHARE_GPU");
  const std::string before = shared ? shared : "";
  unsetenv("SLUICE_SHARE_GPU");
  std::string answer;
  try {
    answer = parallel::gpu_info(
                 parallel::choose_device(parallel::DeviceChoice::kCuda, mpi_world().place(), mpi_world()))
                 .uuid;
  } catch (const std::exception& error) {
    answer = error.what();
  }
  if (shared) setenv("SLUICE_SHARE_GPU", before.c_str(), 1);
  return answer;
}

TEST(GpuRanks, HaveAGpuEachOrAreRefused) {
  SLUICE_NEEDS_GPU();
  const auto gpus = static_cast<std::int64_t>(parallel::report_devices().gpus.size());
  const std::string answer = own_gpu();
  if (gpus >= mpi_world().place().local_size) {
    EXPECT_EQ(answer, parallel::gpu_info(gpu_of_rank()).uuid);
  } else if (gpus == 1) {
    EXPECT_THAT(answer, AllOf(HasSubstr("ranks 0 and 1"), HasSubstr("GPU-")));
  } else {
    EXPECT_THAT(answer, HasSubstr("only " + std::to_string(gpus) + " GPUs"));
  }
}

TEST(GpuRanks, MeasureTheirLinkAlike) {
  SLUICE_NEEDS_GPU();
  const auto link = parallel::measure_link(gpu_world(), gpu_of_rank());
  if (mpi_world().rank() == 0)
    std::printf("all_reduce of b bytes over %d ranks: %.1f us + b / %.2f GB/s\n",
                static_cast<int>(mpi_world().size()), 1e6 * link.latency_s, 1e-9 / link.s_per_byte);
  for (const std::string& other : mpi_world().all_gather(std::to_string(link.s_per_byte)))
    EXPECT_EQ(other, std::to_string(link.s_per_byte));
}

}  // namespace
}  // namespace sluice::tests
