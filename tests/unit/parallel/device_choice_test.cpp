#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "parallel/device_internal.h"
#include "parallel/thread_communicator.h"

namespace sluice::parallel {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string device_error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const DeviceError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(DeviceChoice, AutoTakesGpusWhereEveryRankSeesOne) {
  EXPECT_TRUE(all_use_gpus(DeviceChoice::kAuto, {{1, ""}, {8, ""}}));
  EXPECT_FALSE(all_use_gpus(DeviceChoice::kAuto, {{1, ""}, {0, ""}}));
  EXPECT_FALSE(all_use_gpus(DeviceChoice::kAuto, {{0, ""}}));
  EXPECT_FALSE(all_use_gpus(DeviceChoice::kCpu, {{1, ""}, {1, ""}}));
  EXPECT_TRUE(all_use_gpus(DeviceChoice::kCuda, {{1, ""}, {1, ""}}));
}

TEST(DeviceChoice, CudaIsRefusedWithTheRankThatSeesNone) {
  EXPECT_THAT(device_error_of([] {
                (void)all_use_gpus(DeviceChoice::kCuda, {{2, ""}, {0, ""}, {0, ""}});
              }),
              HasSubstr("rank 1 sees no GPU"));
}

TEST(DeviceChoice, AGpuThatCannotBeUsedIsAnErrorUnlessTheCpuIsAskedFor) {
  const std::vector<GpuView> views = {{1, ""}, {0, "the NVIDIA driver is for CUDA 12.4"}};
  for (const auto choice : {DeviceChoice::kAuto, DeviceChoice::kCuda})
    EXPECT_THAT(device_error_of([&] { (void)all_use_gpus(choice, views); }),
                AllOf(HasSubstr("rank 1"), HasSubstr("CUDA 12.4"), HasSubstr("--device cpu")));
  EXPECT_FALSE(all_use_gpus(DeviceChoice::kCpu, views));
}

TEST(DeviceChoice, ARankTakesItsLocalRanksGpuOrTheOneItSees) {
  EXPECT_EQ(gpu_index({.local_rank = 3, .local_size = 4}, 8, Sharing::kForbidden), 3);
  EXPECT_EQ(gpu_index({.local_rank = 3, .local_size = 4}, 1, Sharing::kForbidden), 0);
  EXPECT_EQ(gpu_index({.local_rank = 3, .local_size = 4}, 2, Sharing::kAllowed), 1);
  EXPECT_THAT(
      device_error_of([] { (void)gpu_index({.local_rank = 2, .local_size = 4}, 2, Sharing::kForbidden); }),
      AllOf(HasSubstr("4 ranks"), HasSubstr("2 GPUs")));
}

TEST(DeviceChoice, TwoRanksOnOneGpuAreNamed) {
  const std::vector<std::string> uuids = {"GPU-a", "GPU-b", "GPU-c", "GPU-b"};
  EXPECT_THAT(device_error_of([&] { check_own_gpus(uuids, Sharing::kForbidden); }),
              AllOf(HasSubstr("ranks 1 and 3"), HasSubstr("GPU-b")));
  EXPECT_NO_THROW(check_own_gpus(uuids, Sharing::kAllowed));
  EXPECT_NO_THROW(check_own_gpus({"GPU-a", "GPU-b"}, Sharing::kForbidden));
}

TEST(DeviceChoice, LocalRanksOfLaunchersMustAgree) {
  const Place place{.local_rank = 1, .local_size = 2};
  EXPECT_NO_THROW(check_local_rank(place, "SLURM_LOCALID", std::nullopt));
  EXPECT_NO_THROW(check_local_rank(place, "SLURM_LOCALID", "1"));
  EXPECT_THAT(device_error_of([&] { check_local_rank(place, "SLURM_LOCALID", "0"); }),
              AllOf(HasSubstr("1 of 2"), HasSubstr("SLURM_LOCALID=0")));
}

TEST(DeviceChoice, CodeRunsOnItsGenerationOrIsTranslated) {
  EXPECT_TRUE(has_code("80-real,90", 8, 0));
  EXPECT_TRUE(has_code("80-real,90", 8, 6));  // a later minor version
  EXPECT_TRUE(has_code("80-real,90", 9, 0));
  EXPECT_TRUE(has_code("80-real,90", 12, 0));  // translated from 90
  EXPECT_FALSE(has_code("80-real,90-real", 12, 0));
  EXPECT_FALSE(has_code("86-real", 8, 0));
  EXPECT_FALSE(has_code("80-real,90", 7, 5));
  EXPECT_TRUE(has_code("75-virtual", 7, 5));
}

TEST(DeviceChoice, TheCpuCanAlwaysBeChosen) {
  run_thread_ranks(3, [](Communicator& ranks) {
    const Place place = find_place(ranks);
    EXPECT_EQ(place.local_rank, ranks.rank());
    EXPECT_EQ(place.local_size, 3);
    EXPECT_TRUE(choose_device(DeviceChoice::kCpu, place, ranks).is_cpu());
  });
}

TEST(DeviceChoice, CudaIsAnErrorOnAllRanksWhereThereIsNone) {
  if (!report_devices().gpus.empty()) GTEST_SKIP() << "this machine has GPUs";
  run_thread_ranks(2, [](Communicator& ranks) {
    EXPECT_TRUE(choose_device(DeviceChoice::kAuto, ranks.place(), ranks).is_cpu());
    EXPECT_THAT(device_error_of([&] { (void)choose_device(DeviceChoice::kCuda, ranks.place(), ranks); }),
                HasSubstr("rank 0 sees no GPU"));
  });
}

}  // namespace
}  // namespace sluice::parallel
