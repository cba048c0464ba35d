#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <thread>

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

bool blocks(int signal) {
  sigset_t set;
  pthread_sigmask(SIG_SETMASK, nullptr, &set);
  return sigismember(&set, signal) == 1;
}

TEST(StopSignals, ApartAreNotedByAThreadOfTheirOwn) {
  for (const int number : {SIGTERM, SIGINT, SIGUSR1}) {
    {
      const StopSignals signals(Handlers::kApart);
      EXPECT_TRUE(blocks(number));
      ASSERT_EQ(::kill(::getpid(), number), 0);
      const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
      while (!signals.requested() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
      EXPECT_EQ(signals.first(), number);
    }
    EXPECT_FALSE(blocks(number));
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
