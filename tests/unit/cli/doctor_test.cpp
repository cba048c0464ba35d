#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <numeric>

#include "trainer/cli/doctor/checks.h"
#include "trainer/cli/doctor/grouped.h"
#include "trainer/cli/doctor/launch.h"

namespace sluice::cli::doctor {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

/// A finding of this severity whose value has these words; one that is not good has a fix.
testing::Matcher<const Finding&> finding(Severity severity, const std::string& words) {
  return AllOf(Field("severity", &Finding::severity, severity),
               Field("value", &Finding::value, HasSubstr(words)),
               Field("fix", &Finding::fix,
                     severity == Severity::kGood ? testing::Matcher<std::string>(IsEmpty())
                                                 : testing::Matcher<std::string>(Not(IsEmpty()))));
}
testing::Matcher<const Finding&> good(const std::string& words = "") {
  return finding(Severity::kGood, words);
}
testing::Matcher<const Finding&> warning(const std::string& words) {
  return finding(Severity::kWarning, words);
}
testing::Matcher<const Finding&> fault(const std::string& words) { return finding(Severity::kFault, words); }

std::vector<int> cores(int first, int count) {
  std::vector<int> list(static_cast<std::size_t>(count));
  std::iota(list.begin(), list.end(), first);
  return list;
}

/// Two healthy nodes of 8 cores, each with two ranks.
std::vector<RankProbe> healthy() {
  std::vector<RankProbe> ranks(4);
  for (std::size_t k = 0; k < ranks.size(); ++k) {
    RankProbe& rank = ranks[k];
    rank.rank = static_cast<std::int64_t>(k);
    rank.host = k < 2 ? "node-a" : "node-b";
    rank.local_rank = static_cast<std::int64_t>(k % 2);
    rank.local_size = 2;
    rank.libraries = {"/usr/lib/libmpi.so.40.30.4", "/opt/nccl/libnccl.so.2"};
    rank.cores = rank.usable_cores = cores(0, 8);
    rank.limits = {.open_files = 1 << 20, .locked_bytes = kUnlimited, .stack_bytes = 8 << 20};
    rank.shared_memory_free = 1'000'000'000;
    rank.products_flops = 1e12;
    rank.sending_s = rank.receiving_s = 1e-3;
    if (rank.local_rank == 0)
      rank.directories = {
          {.path = "/shared", .fault = "", .free_bytes = 100'000'000'000, .free_inodes = 1'000'000}};
  }
  return ranks;
}

Finding launch_of(const Environment& environment, std::int64_t world_size) {
  return judge_launch(read_launch(environment), world_size, "Open MPI v4.1.4");
}

TEST(DoctorLaunch, AWorldAsLargeAsTheLauncherSaysIsGood) {
  EXPECT_THAT(launch_of({}, 1), good("1 rank, without a launcher"));
  EXPECT_THAT(launch_of({{"OMPI_COMM_WORLD_SIZE", "4"}}, 4), good("OMPI_COMM_WORLD_SIZE=4"));
  EXPECT_THAT(launch_of({{"PMI_SIZE", "4"}, {"PMI_RANK", "3"}}, 4), good("PMI_SIZE=4"));
  EXPECT_THAT(launch_of({{"SLURM_STEP_NUM_TASKS", "2"}, {"PMIX_NAMESPACE", "x"}, {"PMIX_RANK", "1"}}, 2),
              good(""));
  // Four ranks of an mpirun whose daemons were started as two tasks.
  EXPECT_THAT(
      launch_of({{"OMPI_COMM_WORLD_SIZE", "4"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_NTASKS", "4"}}, 4),
      good());
  // One rank of mpirun in a larger job is what was asked for.
  EXPECT_THAT(launch_of({{"OMPI_COMM_WORLD_SIZE", "1"}, {"SLURM_NTASKS", "4"}}, 1), good());
}

TEST(DoctorLaunch, ManyJobsOfOneRankAreAFault) {
  EXPECT_THAT(launch_of({{"OMPI_COMM_WORLD_SIZE", "2"}, {"OMPI_COMM_WORLD_RANK", "1"}}, 1),
              fault("2 processes were started (OMPI_COMM_WORLD_SIZE=2), but MPI sees 1"));
  const Finding other = launch_of({{"PMI_SIZE", "8"}, {"PMI_RANK", "7"}}, 1);
  EXPECT_THAT(other, fault("8 processes were started (PMI_SIZE=8)"));
  EXPECT_THAT(other.fix, HasSubstr("Open MPI v4.1.4"));
  EXPECT_THAT(launch_of({{"PMIX_NAMESPACE", "x"}, {"PMIX_RANK", "3"}}, 1), fault("PMIX_RANK=3"));
}

TEST(DoctorLaunch, UnderSrunTheFixDependsOnPmix) {
  const Environment step{{"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "2"}};
  const Finding without = launch_of(step, 1);
  EXPECT_THAT(without, fault("4 processes were started (SLURM_STEP_NUM_TASKS=4)"));
  EXPECT_THAT(without.fix, HasSubstr("srun --mpi=pmix"));
  Environment with = step;
  with["PMIX_NAMESPACE"] = "slurm.pmix.1.0";
  EXPECT_THAT(launch_of(with, 1).fix, HasSubstr("does not understand the site's PMIx"));
  EXPECT_EQ(read_launch(step).rank, 2);
}

TEST(DoctorLaunch, OneProcessInALargerJobIsWarnedAbout) {
  EXPECT_THAT(launch_of({{"SLURM_NTASKS", "4"}}, 1), warning("one process, in a job of 4 tasks"));
  EXPECT_THAT(launch_of({{"SLURM_NTASKS", "1"}}, 1), good());
  EXPECT_THAT(launch_of({{"SLURM_NTASKS", "many"}, {"OMPI_COMM_WORLD_SIZE", ""}}, 1), good());
}

TEST(DoctorLaunch, ReadsTheEnvironmentThatThisProcessWasStartedWith) {
  EXPECT_EQ(::setenv("SLUICE_DOCTOR_TEST", "later", 1), 0);
  const Environment environment = started_environment();
  EXPECT_TRUE(environment.contains("PATH"));
  EXPECT_FALSE(environment.contains("SLUICE_DOCTOR_TEST"));
}

TEST(DoctorLibraries, TwoFilesOfOneLibraryAreAFault) {
  EXPECT_THAT(judge_libraries(healthy()),
              ElementsAre(good("/usr/lib/libmpi.so.40.30.4, /opt/nccl/libnccl.so.2")));
  auto ranks = healthy();
  ranks[3].libraries = {"/opt/nccl/libnccl.so.2", "/site/libmpich.so.12", "/usr/lib/libmpi.so.40.30.4"};
  ranks[1].libraries.emplace_back("/usr/lib/libnccl.so.2.18");
  EXPECT_THAT(
      judge_libraries(ranks),
      ElementsAre(
          fault("rank 1 on node-a: 2 in one process: /opt/nccl/libnccl.so.2 and /usr/lib/libnccl.so.2.18"),
          fault("rank 3 on node-b: 2 in one process: /site/libmpich.so.12 and /usr/lib/libmpi.so.40.30.4")));
}

TEST(DoctorLibraries, AreFoundInTheMapsOfAProcess) {
  const std::string maps =
      "7f0-7f1 r--p 00000000 08:01 1 /usr/lib/libmpi.so.40.30.4\n"
      "7f1-7f2 r-xp 00001000 08:01 1 /usr/lib/libmpi.so.40.30.4\n"
      "7f3-7f4 r-xp 00001000 08:01 2 /opt/a b/libnccl.so.2\n"
      "7f5-7f6 r-xp 00001000 08:01 3 /usr/lib/libmpi_cxx.so.40\n"
      "7f7-7f8 r-xp 00001000 08:01 4 /usr/lib/libnccl-net.so\n"
      "7f9-7fa rw-p 00000000 00:00 0 [heap]\n"
      "7fb-7fc rw-p 00000000 00:00 0\n";
  EXPECT_THAT(exchange_libraries(maps), ElementsAre("/opt/a b/libnccl.so.2", "/usr/lib/libmpi.so.40.30.4"));
}

TEST(DoctorGpus, AreComparedWithTheRanks) {
  EXPECT_THAT(judge_gpus(healthy(), true, ""), ElementsAre(good("none visible")));
  auto ranks = healthy();
  for (RankProbe& rank : ranks) rank.gpus = 2;
  EXPECT_THAT(judge_gpus(ranks, true, ""), ElementsAre(good("2 visible")));
  for (RankProbe& rank : ranks) rank.gpus = 4;
  EXPECT_THAT(judge_gpus(ranks, true, ""), ElementsAre(warning("node-a, node-b: 4 GPUs, 2 ranks")));
  for (RankProbe& rank : ranks) rank.gpus = rank.host == "node-a" ? 2 : 0;
  EXPECT_THAT(judge_gpus(ranks, true, ""), ElementsAre(fault("rank 2 on node-b, rank 3 on node-b: no GPU")));
}

TEST(DoctorGpus, ADriverWithoutCodeAndADeviceThatCannotBeHadAreNamed) {
  auto ranks = healthy();
  ranks[2].gpu_driver = true;
  EXPECT_THAT(judge_gpus(ranks, false, ""), ElementsAre(warning("node-b: a GPU driver")));
  EXPECT_THAT(judge_gpus(healthy(), true, "the NVIDIA driver is for CUDA 11.0 at most"),
              ElementsAre(fault("CUDA 11.0 at most")));
}

TEST(DoctorDirectories, LocksRoomAndSharing) {
  EXPECT_THAT(judge_directories(healthy()), ElementsAre(good("/shared: locks, 100 GB free")));
  const auto with = [](auto change) {
    auto ranks = healthy();
    change(ranks[2].directories[0]);
    return judge_directories(ranks);
  };
  EXPECT_THAT(with([](DirectoryProbe& probe) { probe.lock_error = ENOLCK; }),
              ElementsAre(fault("node-b: its file system has no file locks")));
  EXPECT_THAT(with([](DirectoryProbe& probe) { probe.fault = "mkdtemp: Read-only file system"; }),
              ElementsAre(warning("Read-only")));
  EXPECT_THAT(with([](DirectoryProbe& probe) { probe.sees_rank_zero = false; }),
              ElementsAre(fault("not the directory that rank 0 sees")));
  EXPECT_THAT(with([](DirectoryProbe& probe) { probe.free_bytes = 9'990'000'000; }),
              ElementsAre(warning("9.99 GB free")));
  EXPECT_THAT(with([](DirectoryProbe& probe) { probe.free_bytes = 10'000'000'000; }), ElementsAre(good()));
  EXPECT_THAT(with([](DirectoryProbe& probe) { probe.free_bytes = 990'000'000; }),
              ElementsAre(fault("0.99 GB free")));
  EXPECT_THAT(with([](DirectoryProbe& probe) { probe.free_inodes = 9'999; }),
              ElementsAre(warning("9999 files more")));
  EXPECT_THAT(with([](DirectoryProbe& probe) { probe.free_inodes = 99; }),
              ElementsAre(fault("99 files more")));
  EXPECT_THAT(with([](DirectoryProbe& probe) { probe.free_inodes = kUnlimited; }), ElementsAre(good()));
}

TEST(DoctorDirectories, WithoutHdf5sLocksTheFileSystemNeedsNone) {
  auto ranks = healthy();
  ranks[0].directories[0].lock_error = ENOLCK;
  ranks[0].hdf5_locks = false;
  EXPECT_THAT(judge_directories(ranks), ElementsAre(good()));
}

TEST(DoctorSharedMemory, IsCountedForEachRankOfANode) {
  EXPECT_THAT(judge_shared_memory(healthy()), ElementsAre(good("1000 MB free")));
  auto ranks = healthy();
  ranks[0].shared_memory_free = 127'000'000;
  EXPECT_THAT(judge_shared_memory(ranks),
              ElementsAre(warning("node-a: 127 MB free in /dev/shm for 2 ranks")));
  ranks[2].shared_memory_free = 31'000'000;
  EXPECT_THAT(judge_shared_memory(ranks), ElementsAre(warning("node-a"), fault("node-b: 31 MB")));
}

TEST(DoctorLimits, AreWarnedAboutWhereTheyBite) {
  EXPECT_THAT(judge_limits(healthy()), ElementsAre(good()));
  auto ranks = healthy();
  ranks[1].limits.open_files = 256;
  ranks[2].limits.stack_bytes = 1 << 20;
  EXPECT_THAT(judge_limits(ranks), ElementsAre(warning("rank 1 on node-a: at most 256 open files"),
                                               warning("rank 2 on node-b: a stack of 1048576 bytes")));
  ranks = healthy();
  ranks[3].limits.locked_bytes = 65536;
  EXPECT_THAT(judge_limits(ranks), ElementsAre(good()));
  ranks[2].infiniband = true;
  EXPECT_THAT(judge_limits(ranks),
              ElementsAre(warning("rank 3 on node-b: at most 65536 bytes of locked memory")));
}

TEST(DoctorBinding, RanksThatShareCoresWhileOthersAreFreeAreAFault) {
  EXPECT_THAT(judge_binding(healthy()), ElementsAre(good("8 cores for 2 ranks on node-a")));
  auto ranks = healthy();
  ranks[2].cores = ranks[3].cores = {5};
  EXPECT_THAT(judge_binding(ranks),
              ElementsAre(fault("node-b: 2 ranks share core 5, while 7 of 8 cores are out of their reach")));
  ranks[2].cores = cores(0, 4);
  ranks[3].cores = cores(4, 4);
  EXPECT_THAT(judge_binding(ranks), ElementsAre(good()));
}

TEST(DoctorBinding, HalfOfTheCoresOutOfReachIsWarnedAbout) {
  auto ranks = healthy();
  ranks[0].cores = {0};
  ranks[1].cores = {1};
  EXPECT_THAT(judge_binding(ranks), ElementsAre(warning("node-a: 2 ranks bound to 2 of 8 cores")));
  ranks[1].cores = cores(1, 6);
  EXPECT_THAT(judge_binding(ranks), ElementsAre(good()));
}

TEST(DoctorClocks, AreComparedWithRankZeros) {
  auto ranks = healthy();
  ranks[1].clock_ahead_s = -0.9;
  EXPECT_THAT(judge_clocks(ranks), ElementsAre(good("within 0.900 s")));
  ranks[2].clock_ahead_s = -1.5;
  ranks[3].clock_ahead_s = 61;
  EXPECT_THAT(judge_clocks(ranks),
              ElementsAre(warning("node-b: 1.5 s behind rank 0's clock"), fault("61.0 s ahead of")));
}

TEST(DoctorExchange, AWrongSumIsAFaultAndASlowRankIsNamed) {
  EXPECT_THAT(judge_exchange(healthy()), ElementsAre(good("1.00 ms")));
  auto ranks = healthy();
  ranks[2].sum_right = false;
  ranks[3].receiving_s = 3.1e-3;
  ranks[1].sending_s = 2.9e-3;
  EXPECT_THAT(judge_exchange(ranks),
              ElementsAre(fault("rank 2 on node-b: an all-reduce gave a wrong sum"),
                          warning("rank 3 on node-b: a broadcast to it takes 3.10 ms, 3.1 times")));
  ranks.resize(1);
  EXPECT_THAT(judge_exchange(ranks), ElementsAre(good("one rank exchanges nothing")));
}

TEST(DoctorProducts, ASlowRankIsNamedAgainstTheMedian) {
  EXPECT_THAT(judge_products(healthy()), ElementsAre(good("1.000 TFLOP/s")));
  auto ranks = healthy();
  ranks[3].products_flops = 0.79e12;
  EXPECT_THAT(judge_products(ranks),
              ElementsAre(warning("rank 3 on node-b: 0.790 TFLOP/s, 0.79 of the median rank's")));
  ranks.resize(2);
  ranks[0].products_flops = 0.4e12;
  EXPECT_THAT(judge_products(ranks), ElementsAre(warning("rank 0 on node-a: 0.400 TFLOP/s")));
}

TEST(DoctorGrouped, NamesAtMostEightPlaces) {
  Grouped grouped;
  for (int k = 0; k < 10; ++k)
    grouped.add({.severity = Severity::kWarning, .what = "w", .value = "v", .fix = "f"}, std::to_string(k));
  EXPECT_THAT(grouped.or_good({}), ElementsAre(warning("0, 1, 2, 3, 4, 5, 6, 7 and 2 more: v")));
}

}  // namespace
}  // namespace sluice::cli::doctor
