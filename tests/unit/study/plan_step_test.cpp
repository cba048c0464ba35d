#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <random>

#include "trainer/study/plan/extreme.h"
#include "trainer/study/plan/overlap.h"
#include "trainer/study/plan/step_model.h"

namespace sluice::study::plan {
namespace {

TEST(Overlap, OfTwoBucketsIsWhatAHandComputes) {
  // The first is ready after 4 s and takes 3, the second is ready at the end: 10 s of backward hide the
  // first, the second is exposed.
  const Overlap plain =
      simulate_overlap(10, {{.ready_s = 4, .reduce_s = 3}, {.ready_s = 10, .reduce_s = 2}}, 1);
  EXPECT_DOUBLE_EQ(plain.backward_s, 10);
  EXPECT_DOUBLE_EQ(plain.exposed_s(), 2);
  // At half speed while the first is reduced, 3 s do the work of 1.5: backward ends at 11.5.
  const Overlap slow =
      simulate_overlap(10, {{.ready_s = 4, .reduce_s = 3}, {.ready_s = 10, .reduce_s = 2}}, 2);
  EXPECT_DOUBLE_EQ(slow.backward_s, 11.5);
  EXPECT_DOUBLE_EQ(slow.exposed_s(), 2);
}

TEST(Overlap, OfALinkThatIsTooSlowIsItsTimeAfterTheFirstBucket) {
  const Overlap late =
      simulate_overlap(10, {{.ready_s = 1, .reduce_s = 20}, {.ready_s = 10, .reduce_s = 5}}, 1);
  EXPECT_DOUBLE_EQ(late.backward_s, 10);
  EXPECT_DOUBLE_EQ(late.reduced_s, 26);
  EXPECT_DOUBLE_EQ(late.exposed_s(), 16);
}

TEST(Overlap, OfABackwardThatGoesOnAlone) {
  const Overlap short_one = simulate_overlap(10, {{.ready_s = 1, .reduce_s = 2}}, 4);
  EXPECT_DOUBLE_EQ(short_one.backward_s, 11.5) << "half a second's work in two";
  EXPECT_EQ(short_one.exposed_s(), 0);
  EXPECT_DOUBLE_EQ(simulate_overlap(10, {}, 4).backward_s, 10);
}

RC_GTEST_PROP(Overlap, LiesBetweenTheLongerAndTheSumAndGrowsWithEachPart, ()) {
  const auto share = [] { return *rc::gen::inRange(0, 1001) / 1000.0; };
  const double backward = 1 + 10 * share();
  const auto count = *rc::gen::inRange<std::size_t>(1, 20);
  std::vector<ReadyBucket> buckets(count);
  double sum = 0;
  double ready = 0;
  for (ReadyBucket& bucket : buckets) {
    ready += share() * (backward - ready) / 2;
    bucket = {.ready_s = ready, .reduce_s = share()};
    sum += bucket.reduce_s;
  }
  const double slowdown = 1 + share();
  const Overlap overlap = simulate_overlap(backward, buckets, slowdown);
  const double end = std::max(overlap.backward_s, overlap.reduced_s);
  constexpr double kRounding = 1e-9;
  RC_ASSERT(end + kRounding >= std::max(backward, buckets.front().ready_s + sum));
  RC_ASSERT(end <= backward * slowdown + sum + kRounding);
  auto longer = buckets;
  longer[*rc::gen::inRange<std::size_t>(0, count)].reduce_s += share();
  const Overlap more = simulate_overlap(backward, longer, slowdown);
  RC_ASSERT(std::max(more.backward_s, more.reduced_s) + kRounding >= end);
  const Overlap slower = simulate_overlap(backward, buckets, slowdown + share());
  RC_ASSERT(slower.backward_s + kRounding >= overlap.backward_s);
}

TEST(ExpectedMaximum, IsThatOfManyDraws) {
  std::mt19937_64 random(7);
  std::lognormal_distribution<double> shape(0, 0.1);
  std::vector<double> samples(50);
  for (double& sample : samples) sample = shape(random);
  std::uniform_int_distribution<std::size_t> pick(0, samples.size() - 1);
  for (const int draws : {1, 2, 8, 100}) {
    constexpr int kTrials = 40'000;
    double sum = 0;
    for (int trial = 0; trial < kTrials; ++trial) {
      double most = 0;
      for (int i = 0; i < draws; ++i) most = std::max(most, samples[pick(random)]);
      sum += most;
    }
    EXPECT_NEAR(expected_maximum(samples, draws), sum / kTrials, 0.003) << draws;
  }
}

TEST(ExpectedMaximum, OfThreeSamplesAndTwoDrawsIsWhatAHandComputes) {
  EXPECT_DOUBLE_EQ(expected_maximum({3, 1, 2}, 2), (1 * 1 + 2 * 3 + 3 * 5) / 9.0);
  EXPECT_DOUBLE_EQ(expected_maximum({3, 1, 2}, 1), 2);
  EXPECT_NEAR(expected_maximum({3, 1, 2}, 1e6), 3, 1e-9) << "never above what was measured";
  EXPECT_EQ(expected_maximum({}, 5), 0);
}

Cluster plain_cluster() {
  Cluster cluster;
  cluster.gpu = {.name = "",
                 .memory_bytes = 1e9,
                 .memory_overhead_bytes = 1e6,
                 .gemm_flops_per_s = 1e12,
                 .gemm_bytes_per_s = 1e11,
                 .copy_bytes_per_s = 1e10,
                 .update_bytes_per_s = 1e10};
  cluster.links.ranks_per_node = 4;
  const Hop hop{.latency_s = 1e-5, .bytes_per_s = 1e9};
  cluster.links.node = {.all_reduce = hop, .reduce_scatter = hop, .all_gather = hop};
  cluster.links.network = cluster.links.node;
  return cluster;
}

/// 10 ms forward (4 of products' FLOPs, 2 of their bytes, 4 of passes), 20 backward; 6 ms of update.
Workload plain_work(std::int64_t ranks) {
  Workload work;
  work.layout.ranks = ranks;
  work.layout.micro_batches = 2;
  work.layers = 3;
  work.step_tokens = 1000;
  work.useful_flops_per_token = 1e6;
  work.products = {{.flops = 4e9, .bytes = 2e8}};
  work.forward_flops = 4e9;
  work.backward_flops = 8e9;
  work.forward_bytes = 4e7;
  work.backward_bytes = 8e7;
  work.update_bytes = 6e7;
  work.gradient_bytes = 1e7;
  work.buckets = {{.bytes = 4e6, .ready = 0.5}, {.bytes = 1e6, .ready = 1}};
  work.memory_bytes = 5e8;
  return work;
}

TEST(PredictedStep, OfOneRankIsWhatAHandComputes) {
  const StepPrediction step = predict_step(plain_work(1), plain_cluster());
  EXPECT_NEAR(step.forward_s, 2 * 10e-3, 1e-12);
  EXPECT_NEAR(step.backward_s, 2 * 20e-3, 1e-12);
  EXPECT_NEAR(step.optimizer_s, 6e-3, 1e-12);
  EXPECT_NEAR(step.other_s, 1e-3, 1e-12);
  EXPECT_EQ(step.comm_exposed_s, 0);
  EXPECT_NEAR(step.step_s, 67e-3, 1e-12);
  EXPECT_NEAR(step.tokens_per_s, 1000 / 67e-3, 1e-6);
  EXPECT_NEAR(step.efficiency, 1, 1e-12);
  EXPECT_EQ(step.memory_bytes, 5.01e8);
  EXPECT_FALSE(step.extrapolated);
}

TEST(PredictedStep, OfFourRanksExposesTheLastBucketAndWaitsForTheSlowest) {
  Cluster cluster = plain_cluster();
  cluster.gpu.spread = {0.9, 1.0, 1.1};
  const StepPrediction step = predict_step(plain_work(4), cluster);
  // Buckets: 60 us and 6 ms, within the second half of 20 ms; 60 us and 1.5 ms after it. Agreement: 60 us +
  // 48 ns.
  const double slowest = (0.9 * 1 + 1.0 * 15 + 1.1 * 65) / 81 - 1;
  EXPECT_NEAR(step.straggler_s, 60e-3 * slowest, 1e-12);
  EXPECT_NEAR(step.reduce_s, 7.62e-3, 1e-9);
  EXPECT_NEAR(step.comm_exposed_s, 1.56e-3 + 60.048e-6 + step.straggler_s, 1e-9);
  EXPECT_TRUE(step.extrapolated);
  EXPECT_LT(step.efficiency, 1);
}

TEST(PredictedStep, UnderZeroGathersAfterTheUpdateOrUnderTheNextForward) {
  Workload work = plain_work(4);
  work.layout.zero = 1;
  work.gather_bytes = 8e6;
  const double exposed = predict_step(work, plain_cluster()).comm_exposed_s;
  work.gather_hidden = true;
  const double hidden = predict_step(work, plain_cluster()).comm_exposed_s;
  EXPECT_NEAR(exposed - hidden, 3e-5 + 6e-3, 1e-9) << "shorter than the forward";
}

TEST(PredictedStep, ExchangesOfSequencesBelongToForwardAndBackward) {
  Workload work = plain_work(4);
  work.layout.sp = 2;
  work.sequence = {
      {.exchange = Exchange::kAllToAll, .bytes = 1e6, .forward = 2, .backward = 3, .hidden = false}};
  const StepPrediction shared = predict_step(work, plain_cluster());
  const double once = 1e-5 + 0.5e-3;
  EXPECT_NEAR(shared.sequence_s, 2 * 3 * 5 * once, 1e-9);
  EXPECT_NEAR(shared.forward_s, 2 * (10e-3 + 3 * 2 * once), 1e-9);
  work.sequence[0].hidden = true;
  work.mixing_flops = 1;
  EXPECT_EQ(predict_step(work, plain_cluster()).sequence_s, 0) << "under the products";
}

RC_GTEST_PROP(PredictedStep, NeverGetsShorterByLessOfAnything, ()) {
  const auto share = [] { return *rc::gen::inRange(1, 1001) / 1000.0; };
  Cluster cluster = plain_cluster();
  cluster.gpu.spread = {1 - share() / 2, 1, 1 + share()};
  cluster.gpu.overlap_slowdown = 1 + share();
  Workload work = plain_work(*rc::gen::inRange<std::int64_t>(1, 64) * 4);
  work.layout.zero = *rc::gen::inRange(0, 2);
  work.gather_bytes = 1e6 * share();
  const double base = predict_step(work, cluster).step_s;
  const auto not_shorter = [&](const auto& change) {
    Cluster worse = cluster;
    Workload more = work;
    change(worse, more);
    RC_ASSERT(predict_step(more, worse).step_s >= base * (1 - 1e-12));
  };
  const double part = share();
  not_shorter([&](Cluster& c, Workload&) { c.gpu.gemm_flops_per_s *= part; });
  not_shorter([&](Cluster& c, Workload&) { c.gpu.gemm_bytes_per_s *= part; });
  not_shorter([&](Cluster& c, Workload&) { c.gpu.copy_bytes_per_s *= part; });
  not_shorter([&](Cluster& c, Workload&) { c.gpu.update_bytes_per_s *= part; });
  not_shorter([&](Cluster& c, Workload&) { c.links.node.all_reduce.bytes_per_s *= part; });
  not_shorter([&](Cluster& c, Workload&) { c.links.network->reduce_scatter.latency_s += part; });
  not_shorter([&](Cluster&, Workload& w) { w.update_bytes *= 1 + part; });
  not_shorter([&](Cluster&, Workload& w) { w.forward_flops *= 1 + part; });
  not_shorter([&](Cluster&, Workload& w) { w.layout.micro_batches += 1; });
  not_shorter([&](Cluster&, Workload& w) { w.layout.ranks += 4; });
}

TEST(BillFor, CountsDevicesEnergyAndPrices) {
  Cluster cluster = plain_cluster();
  cluster.gpu.power_w = 500;
  cluster.cost = {.currency = "EUR", .gpu_hour = 2, .kwh = 0.5, .pue = 1.2};
  StepPrediction step;
  step.tokens_per_s = 1000;
  const Bill bill = bill_for(3.6e6, step, 8, cluster);
  EXPECT_DOUBLE_EQ(bill.hours, 1);
  EXPECT_DOUBLE_EQ(bill.gpu_hours, 8);
  EXPECT_DOUBLE_EQ(bill.energy_kwh, 4.8);
  EXPECT_DOUBLE_EQ(bill.money, 16 + 2.4);
}

}  // namespace
}  // namespace sluice::study::plan
