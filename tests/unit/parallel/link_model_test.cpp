#include "parallel/link_model.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "parallel/thread_communicator.h"

namespace sluice::parallel {
namespace {

TEST(LinkModel, FindsTheLineThroughItsPoints) {
  const double latency = 20e-6, slope = 4e-12;
  std::vector<TimedExchange> exchanges;
  for (const std::int64_t bytes : {1 << 12, 1 << 18, 1 << 24, 1 << 28})
    exchanges.push_back({bytes, latency + slope * static_cast<double>(bytes)});
  const LinkModel link = fit_link(exchanges);
  EXPECT_NEAR(link.latency_s, latency, 1e-9);
  EXPECT_NEAR(link.s_per_byte, slope, 1e-16);
}

TEST(LinkModel, NeitherPartIsNegative) {
  const LinkModel falling = fit_link({{1000, 2e-6}, {2000, 1e-6}});
  EXPECT_GT(falling.latency_s, 0.0);
  EXPECT_EQ(falling.s_per_byte, 0.0);
  const LinkModel steep = fit_link({{1000, 1e-6}, {2000, 5e-6}});
  EXPECT_EQ(steep.latency_s, 0.0);
  EXPECT_GT(steep.s_per_byte, 0.0);
  EXPECT_THROW((void)fit_link({{1000, 1e-6}, {1000, 2e-6}}), c10::Error);
  EXPECT_THROW((void)fit_link({{1000, 0.0}, {2000, 1e-6}}), c10::Error);
}

TEST(BucketChoice, LatencyIsATenthOfTheTransfer) {
  // 20 us, 250 GB/s: 10 * 20e-6 / 4e-12 = 50 MB = 12.5 million floats.
  const LinkModel link{.latency_s = 20e-6, .s_per_byte = 4e-12};
  EXPECT_NEAR(static_cast<double>(choose_bucket_elements(link, 1'000'000'000, 4)), 12.5e6, 1.0);
  EXPECT_NEAR(static_cast<double>(choose_bucket_elements(link, 1'000'000'000, 8)), 6.25e6, 1.0);
}

TEST(BucketChoice, ThereAreAtLeastEightBucketsAndNoTinyOnes) {
  const LinkModel slow_start{.latency_s = 1.0, .s_per_byte = 1e-12};
  EXPECT_EQ(choose_bucket_elements(slow_start, 80'000'000, 4), 10'000'000);
  const LinkModel no_latency{.latency_s = 0.0, .s_per_byte = 1e-9};
  EXPECT_EQ(choose_bucket_elements(no_latency, 80'000'000, 4), 16384);
  EXPECT_EQ(choose_bucket_elements(slow_start, 1000, 4), 16384) << "larger than the model: one bucket";
  EXPECT_EQ(choose_bucket_elements({}, 80'000'000, 4), 10'000'000) << "a group of one";
  EXPECT_THROW((void)choose_bucket_elements(no_latency, 0, 4), c10::Error);
}

TEST(LinkModel, IsMeasuredAndTheSameOnAllRanks) {
  LinkModel links[2];
  run_thread_ranks(2, [&](Communicator& ranks) { links[ranks.rank()] = measure_link(ranks, at::kCPU); });
  EXPECT_GT(links[0].latency_s + links[0].s_per_byte, 0.0);
  EXPECT_EQ(links[0].latency_s, links[1].latency_s);
  EXPECT_EQ(links[0].s_per_byte, links[1].s_per_byte);
  EXPECT_EQ(measure_link(*make_local_communicator(), at::kCPU).s_per_byte, 0.0);
}

TEST(CollectiveTiming, CountsBytesAsNcclTestsDo) {
  EXPECT_DOUBLE_EQ(bus_factor(Collective::kAllReduce, 2), 1.0);
  EXPECT_DOUBLE_EQ(bus_factor(Collective::kAllReduce, 8), 1.75);
  EXPECT_DOUBLE_EQ(bus_factor(Collective::kAllGather, 8), 0.875);
  EXPECT_DOUBLE_EQ(bus_factor(Collective::kReduceScatter, 4), 0.75);
  EXPECT_DOUBLE_EQ(bus_factor(Collective::kAllToAll, 4), 0.75);
  EXPECT_DOUBLE_EQ(bus_factor(Collective::kNeighbour, 4), 1.0);
  run_thread_ranks(2, [](Communicator& ranks) {
    for (const auto collective : {Collective::kAllReduce, Collective::kAllGather, Collective::kReduceScatter,
                                  Collective::kAllToAll, Collective::kNeighbour}) {
      const auto seconds = time_collective(ranks, at::kCPU, collective, 1000, 2);
      ASSERT_EQ(seconds.size(), 2U);
      EXPECT_GT(seconds[0], 0.0);
    }
  });
}

}  // namespace
}  // namespace sluice::parallel
