#include "parallel/watchdog.h"

#include <c10/util/Exception.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>

#include "parallel/agree.h"
#include "parallel/arena.h"
#include "parallel/thread_communicator.h"

namespace sluice::parallel {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Lets one rank sleep until another says so.
class Gate {
 public:
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

TEST(Watchdog, NamesTheOperationAndWhoDidNotArriveThenAborts) {
  std::optional<HangReport> report;
  Gate reported;
  try {
    run_thread_ranks(3, [&](Communicator& ranks) {
      ranks.barrier();  // every rank has started one operation
      if (ranks.rank() == 2) {
        reported.pass();
        return;
      }
      const Watchdog watchdog(ranks, {.limit = milliseconds(ranks.rank() == 0 ? 50 : 0)},
                              [&](const HangReport& hang) {
                                report = hang;
                                reported.open();
                              });
      ranks.barrier();
    });
    ADD_FAILURE() << "nothing was thrown";
  } catch (const PeerError& error) {
    EXPECT_THAT(error.what(), ::testing::AnyOf(HasSubstr("aborted the job"), HasSubstr("rank 2 returned")));
  }
  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->operation, "barrier");
  EXPECT_EQ(report->rank, 0);
  EXPECT_GE(report->age, milliseconds(50));
  EXPECT_EQ(report->missing.back(), 2);  // rank 1 may be on its way
  EXPECT_THAT(report->text(), HasSubstr("rank 0/3 has waited"));
}

TEST(Watchdog, SeesTheWaitForAnAsynchronousOperation) {
  std::optional<HangReport> report;
  Gate reported;
  EXPECT_THROW(run_thread_ranks(
                   2,
                   [&](Communicator& ranks) {
                     if (ranks.rank() == 1) return reported.pass();
                     const Watchdog watchdog(ranks, {.limit = milliseconds(20)}, [&](const HangReport& hang) {
                       report = hang;
                       reported.open();
                     });
                     const at::Tensor tensor = ArenaLayout({{"a", {4}}}).allocate(at::kFloat, at::kCPU);
                     Work work = ranks.all_reduce_async(tensor, ReduceOp::kMax);
                     work.wait();
                   }),
               PeerError);
  ASSERT_TRUE(report.has_value());
  EXPECT_THAT(report->operation, HasSubstr("all_reduce_async max Float[1024]"));
  EXPECT_THAT(report->missing, ElementsAre(1));
}

TEST(Watchdog, SeesAWaitThatItsCallerNames) {
  std::optional<HangReport> report;
  Gate reported;
  EXPECT_THROW(run_thread_ranks(2,
                                [&](Communicator& ranks) {
                                  if (ranks.rank() == 1) return reported.pass();
                                  const Watchdog watchdog(ranks, {.limit = milliseconds(20)},
                                                          [&](const HangReport& hang) {
                                                            report = hang;
                                                            reported.open();
                                                          });
                                  const auto blocking = ranks.blocking("step 12");
                                  ranks.barrier();
                                }),
               PeerError);
  ASSERT_TRUE(report.has_value());
  EXPECT_THAT(report->missing, ElementsAre(1));
}

TEST(Watchdog, SeesAGroupThatWasSplitOffAndNamesItsRanksByTheirNumberInTheWorld) {
  std::optional<HangReport> report;
  Gate reported;
  EXPECT_THROW(run_thread_ranks(4,
                                [&](Communicator& ranks) {
                                  const auto row = ranks.split(ranks.rank() / 2);
                                  const auto pair = row->split(0);  // the same ranks once more
                                  if (ranks.rank() == 3) return reported.pass();
                                  if (ranks.rank() < 2) return ranks.barrier();
                                  const Watchdog watchdog(ranks, {.limit = milliseconds(20)},
                                                          [&](const HangReport& hang) {
                                                            report = hang;
                                                            reported.open();
                                                          });
                                  pair->barrier();
                                }),
               PeerError);
  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->operation, "barrier among ranks 2, 3");
  EXPECT_EQ(report->rank, 2);
  EXPECT_THAT(report->missing, ElementsAre(3));
}

TEST(Communicator, ShowsTheOuterWaitAgainAfterAnInnerOne) {
  const auto alone = make_local_communicator();
  {
    const auto blocking = alone->blocking("step 12");
    ASSERT_TRUE(alone->pending().has_value());
    const PendingOperation first = *alone->pending();
    EXPECT_EQ(first.name, "step 12");
    alone->barrier();
    ASSERT_TRUE(alone->pending().has_value());
    EXPECT_EQ(alone->pending()->name, "step 12");
    EXPECT_EQ(alone->pending()->since, first.since);
  }
  EXPECT_FALSE(alone->pending().has_value());
}

TEST(Watchdog, LetsRanksWorkThatDoNotHang) {
  int reports = 0;
  run_thread_ranks(2, [&](Communicator& ranks) {
    const Watchdog watchdog(ranks, {.limit = std::chrono::minutes(1)}, [&](const HangReport&) { ++reports; });
    for (int i = 0; i < 100; ++i) ranks.barrier();
    EXPECT_FALSE(ranks.pending().has_value());
  });
  EXPECT_EQ(reports, 0);
  EXPECT_THROW(Watchdog(*make_local_communicator(), {.limit = milliseconds(-1)}, {}), c10::Error);
}

TEST(HangReport, IsOneLineForAPerson) {
  const HangReport report{"barrier", std::chrono::milliseconds(61250), 0, 4, {1, 3}, ""};
  EXPECT_EQ(report.text(), "rank 0/4 has waited 61.2 s in barrier; not arrived: ranks 1, 3");
  const HangReport blind{"barrier", std::chrono::seconds(2), 1, 2, {}, ""};
  EXPECT_EQ(blind.text(), "rank 1/2 has waited 2.0 s in barrier; which ranks did not arrive is not known");
  const HangReport gone{"barrier", std::chrono::seconds(0), 1, 2, {}, "the process of rank 0 has ended"};
  EXPECT_EQ(gone.text(), "rank 1/2: the process of rank 0 has ended");
}

}  // namespace
}  // namespace sluice::parallel
