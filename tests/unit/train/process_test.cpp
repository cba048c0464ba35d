#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <csignal>

#include "parallel/thread_communicator.h"
#include "trainer/train/signals.h"
#include "trainer/train/threads.h"

namespace sluice::train {
namespace {

TEST(StopSignals, EachOfThemIsNoted) {
  for (const int number : {SIGTERM, SIGINT, SIGUSR1}) {
    const StopSignals signals;
    EXPECT_FALSE(signals.requested());
    ASSERT_EQ(::raise(number), 0);
    EXPECT_TRUE(signals.requested()) << number;
  }
}

TEST(StopSignalsDeathTest, ASecondOneHasItsDefaultAction) {
  EXPECT_EXIT(
      {
        const StopSignals signals;
        ::raise(SIGUSR1);
        ::raise(SIGTERM);
      },
      ::testing::KilledBySignal(SIGTERM), "");
}

TEST(FairThreads, RanksOfOneMachineShareItsCores) {
  cpu_set_t set;
  ASSERT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  const std::int64_t cores = CPU_COUNT(&set);
  for (const std::int64_t ranks : {1, 2, 3, 5}) {
    parallel::run_thread_ranks(ranks, [&](parallel::Communicator& world) {
      EXPECT_EQ(fair_threads(world), std::max<std::int64_t>(1, cores / ranks)) << ranks;
    });
  }
}

}  // namespace
}  // namespace sluice::train
