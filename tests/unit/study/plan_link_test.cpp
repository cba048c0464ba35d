#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <stdexcept>

#include "trainer/study/plan/link.h"

namespace sluice::study::plan {
namespace {

Link level(Algorithm algorithm, double latency_s, double bytes_per_s) {
  const Hop hop{.latency_s = latency_s, .bytes_per_s = bytes_per_s};
  return {.algorithm = algorithm, .all_reduce = hop, .reduce_scatter = hop, .all_gather = hop};
}

Links one_node(Algorithm algorithm) {
  return {.ranks_per_node = 8, .node = level(algorithm, 1e-5, 1e9), .network = {}};
}

TEST(ExchangeTime, OfARingIsWhatAHandComputes) {
  const Links links = one_node(Algorithm::kRing);
  // 4 ranks, 8 MB: 6 messages of 10 us, and 1.5 x 8 MB at 1 GB/s.
  EXPECT_DOUBLE_EQ(exchange_s(Exchange::kAllReduce, links, {4, 4}, 8e6), 6e-5 + 12e-3);
  EXPECT_DOUBLE_EQ(exchange_s(Exchange::kReduceScatter, links, {4, 4}, 8e6), 3e-5 + 6e-3);
  EXPECT_DOUBLE_EQ(exchange_s(Exchange::kAllGather, links, {4, 4}, 8e6), 3e-5 + 6e-3);
  EXPECT_DOUBLE_EQ(exchange_s(Exchange::kAllToAll, links, {4, 4}, 8e6), 3e-5 + 6e-3);
}

TEST(ExchangeTime, OfATreeIsWhatAHandComputes) {
  const Links links = one_node(Algorithm::kTree);
  // 5 ranks: a tree of depth 3.
  EXPECT_DOUBLE_EQ(exchange_s(Exchange::kAllReduce, links, {5, 5}, 1e6), 6e-5 + 2e-3);
  EXPECT_DOUBLE_EQ(exchange_s(Exchange::kAllGather, links, {5, 5}, 1e6), 3e-5 + 0.8e-3);
  EXPECT_DOUBLE_EQ(exchange_s(Exchange::kAllToAll, links, {5, 5}, 1e6), 4e-5 + 0.8e-3)
      << "all sends are its own";
}

TEST(ExchangeTime, OfNodesIsWithinThemThenBetweenThem) {
  const Links links{.ranks_per_node = 4,
                    .node = level(Algorithm::kRing, 0, 1e9),
                    .network = level(Algorithm::kRing, 1e-3, 1e8)};
  const Group group = whole_group(links, 8);
  EXPECT_EQ(group.per_node, 4);
  // 4 MB: 3 MB within the node; 1 MB all-reduced by two nodes, 1 MB on the wire; 3 MB within the node.
  EXPECT_DOUBLE_EQ(exchange_s(Exchange::kAllReduce, links, group, 4e6), 3e-3 + (2e-3 + 1e-2) + 3e-3);
  EXPECT_DOUBLE_EQ(exchange_s(Exchange::kReduceScatter, links, group, 4e6), 3e-3 + (1e-3 + 5e-3));
  // Of 0.5 MB each, 3 go to neighbours and 4 to the other node.
  EXPECT_DOUBLE_EQ(exchange_s(Exchange::kAllToAll, links, group, 4e6), 1.5e-3 + 4 * (1e-3 + 5e-3));
}

TEST(ExchangeTime, OfOneRankIsNothing) {
  EXPECT_EQ(exchange_s(Exchange::kAllReduce, one_node(Algorithm::kRing), {1, 1}, 1e9), 0);
}

TEST(ExchangeTime, OfSeveralNodesNeedsANetwork) {
  const Links links = one_node(Algorithm::kRing);
  EXPECT_THROW((void)exchange_s(Exchange::kAllReduce, links, whole_group(links, 9), 1),
               std::invalid_argument);
}

RC_GTEST_PROP(ExchangeTime, IsRecoveredFromWhatItMakesOfAHop, ()) {
  const auto exchange =
      *rc::gen::element(Exchange::kAllReduce, Exchange::kReduceScatter, Exchange::kAllGather);
  const auto algorithm = *rc::gen::element(Algorithm::kRing, Algorithm::kTree);
  const auto ranks = *rc::gen::inRange<std::int64_t>(2, 500);
  const double latency = 1e-6 * *rc::gen::inRange(1, 1000);
  const double rate = 1e6 * *rc::gen::inRange(1, 1000);
  const Links links{.ranks_per_node = ranks, .node = level(algorithm, latency, rate), .network = {}};
  const Group group{ranks, ranks};
  const double none = exchange_s(exchange, links, group, 0);
  const double per_byte = (exchange_s(exchange, links, group, 1e9) - none) / 1e9;
  const Hop hop = hop_of(exchange, algorithm, ranks, none, per_byte);
  RC_ASSERT(std::abs(hop.latency_s / latency - 1) < 1e-6);
  RC_ASSERT(std::abs(hop.bytes_per_s / rate - 1) < 1e-4);
}

RC_GTEST_PROP(ExchangeTime, NeverFallsWithBytesRanksOrSlowerLinks, ()) {
  const auto exchange =
      *rc::gen::element(Exchange::kAllReduce, Exchange::kReduceScatter, Exchange::kAllGather);
  const auto algorithm = *rc::gen::element(Algorithm::kRing, Algorithm::kTree);
  const double rate = 1e6 * *rc::gen::inRange(1, 1000);
  const double latency = 1e-6 * *rc::gen::inRange(0, 1000);
  const auto per_node = *rc::gen::inRange<std::int64_t>(1, 16);
  const auto nodes = *rc::gen::inRange<std::int64_t>(1, 100);
  const double bytes = *rc::gen::inRange(0, 1'000'000'000);
  const auto time = [&](double more_latency, double rate_share, std::int64_t of_nodes, double more_bytes) {
    const Links links{.ranks_per_node = per_node,
                      .node = level(algorithm, latency + more_latency, rate * rate_share),
                      .network = level(algorithm, 2 * latency + more_latency, rate * rate_share / 3)};
    return exchange_s(exchange, links, whole_group(links, per_node * of_nodes), bytes + more_bytes);
  };
  const double base = time(0, 1, nodes, 0);
  RC_ASSERT(time(1e-6, 1, nodes, 0) >= base);
  RC_ASSERT(time(0, 0.5, nodes, 0) >= base);
  RC_ASSERT(time(0, 1, nodes, 1e6) >= base);
  RC_ASSERT(time(0, 1, nodes + 1, 0) >= base * (1 - 1e-12));
}

}  // namespace
}  // namespace sluice::study::plan
