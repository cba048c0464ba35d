#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "tests/unit/cli/faults.h"
#include "trainer/cli/bench.h"
#include "trainer/cli/calibration.h"
#include "trainer/cli/cluster_file.h"
#include "trainer/cli/inspect_model.h"
#include "trainer/cli/plan_products.h"
#include "trainer/cli/plan_report.h"
#include "trainer/cli/plan_search.h"
#include "trainer/cli/plan_workload.h"

namespace sluice::cli {
namespace {

using study::plan::Cluster;
using study::plan::Workload;
using testing::HasSubstr;

constexpr std::int64_t kIds = 300;

Cluster cluster_of(const std::string& kind = "cpu", double memory_bytes = 1e10) {
  Cluster cluster = parse_cluster(
      "[gpu]\nprecision = fp32\nmemory_bytes = 1\ngemm_flops_per_s = 1e11\ngemm_bytes_per_s = 2e10\n"
      "copy_bytes_per_s = 1e10\nupdate_bytes_per_s = 1e10\nspread = 0.95,1,1.05\nkind = " +
          kind + "\n[link.node]\nranks = 4\nlatency_s = 2e-5\nbytes_per_s = 2e9\n",
      "c.ini");
  cluster.gpu.memory_bytes = memory_bytes;
  return cluster;
}

train::RunOptions options_of(const std::vector<std::string>& settings = {}) {
  std::vector<std::string> words{"--model.layers=4",   "--model.d_model=64",      "--model.d_ffn=256",
                                 "--model.seq_len=64", "--train.global_batch=32", "--train.micro_batch=4"};
  words.insert(words.end(), settings.begin(), settings.end());
  return bench_options(words);
}

double dense_flops(const train::RunOptions& options) {
  double flops = 0;
  for (const ProductKind& kind : product_kinds(options, kIds))
    flops += static_cast<double>(kind.count) * kind.shape.flops();
  return flops;
}

TEST(PlanProducts, OfAModelWithoutAttentionAreTheFlopsThatItsForwardRuns) {
  for (const char* kind : {"gmlp", "mixer"}) {
    const auto options =
        options_of({std::string("--model.kind=") + kind, "--model.causal=false", "--train.objective=mlm"});
    const Workload work = plan_workload(options, kIds, 1, cluster_of());
    EXPECT_NEAR(dense_flops(options) / work.forward_flops, 1, 1e-9) << kind;
    EXPECT_NEAR(work.backward_flops / work.forward_flops, 2, 1e-9) << kind;
  }
}

TEST(PlanProducts, OfATransformerAreItsDenseFlops) {
  const auto options = options_of({"--model.kind=transformer", "--model.dropout=0.1", "--model.heads=4"});
  EXPECT_NEAR(dense_flops(options) / plan_workload(options, kIds, 1, cluster_of()).forward_flops, 1, 1e-9);
}

TEST(PlanWorkload, TakesMemoryFromTheEstimateOfInspect) {
  const auto options = options_of({"--parallel.zero=1", "--train.recompute=block"});
  const Workload work = plan_workload(options, kIds, 4, cluster_of());
  EXPECT_EQ(work.memory_bytes, static_cast<double>(rank_figures(options, kIds, 4).memory.total()));
}

TEST(PlanWorkload, BucketsHoldTheWholeArenaAndGetReadyInOrder) {
  const auto options = options_of({"--parallel.bucket_mb=0.05"});
  const Workload work = plan_workload(options, kIds, 2, cluster_of());
  ASSERT_GT(work.buckets.size(), 3U);
  EXPECT_TRUE(std::ranges::is_sorted(work.buckets, {}, &study::plan::BucketLoad::ready));
  EXPECT_LT(work.buckets.front().ready, 0.5) << "the last block's are ready early";
  EXPECT_EQ(work.buckets.back().ready, 1);
  const double bytes = std::accumulate(work.buckets.begin(), work.buckets.end(), 0.0,
                                       [](double sum, const auto& bucket) { return sum + bucket.bytes; });
  EXPECT_EQ(bytes, work.gradient_bytes);
}

TEST(PlanWorkload, SharesOfASequenceShrinkWithItsRanks) {
  const auto alone = plan_workload(options_of(), kIds, 1, cluster_of());
  const auto shared = plan_workload(options_of({"--parallel.sp=2"}), kIds, 2, cluster_of());
  // Of 4 chunks a rank's two see 5 of 8 blocks at or below the diagonal.
  const double positions = alone.mixing_flops * (1 - 5.0 / 8);
  EXPECT_NEAR(shared.forward_flops / alone.forward_flops, 0.5 * (1 - positions), 1e-9);
  EXPECT_LT(shared.memory_bytes, alone.memory_bytes);
  EXPECT_GT(shared.memory_bytes, alone.memory_bytes / 2) << "parameters are whole on every rank";
  ASSERT_EQ(shared.sequence.size(), 1U);
  // B t c elements of 4 bytes: 4 sequences, 32 positions, 128 channels.
  EXPECT_EQ(shared.sequence[0].bytes, 4.0 * 4 * 32 * 128);
  const auto gathered =
      plan_workload(options_of({"--parallel.sp=2", "--parallel.sp_mode=rowshard"}), kIds, 2, cluster_of());
  EXPECT_EQ(gathered.sequence[0].bytes, 2 * shared.sequence[0].bytes);
}

TEST(PlanWorkload, RowsOfWAreSummedAndUpdatedByThoseThatHoldThem) {
  const auto of = [](std::int64_t ranks, const std::string& mode, std::int64_t zero) {
    auto options = options_of({"--parallel.sp=2", "--parallel.sp_mode=" + mode});
    options.model.seq_len = 512;
    options.parallel.zero = zero;
    return plan_workload(options, kIds, ranks, cluster_of());
  };
  const auto rows_of_w = [](const Workload& work) {
    double bytes = 0;
    for (const auto& bucket : work.buckets) bytes += bucket.same_place ? bucket.bytes : 0;
    return bytes;
  };
  const Workload whole = of(4, "alltoall", 0);
  const Workload rows = of(4, "rowshard", 0);
  EXPECT_EQ(rows_of_w(whole), 0);
  EXPECT_GT(rows_of_w(rows), 0);
  EXPECT_NEAR(whole.gradient_bytes - rows.gradient_bytes, rows_of_w(rows), 0.02 * rows_of_w(rows))
      << "half of W is another rank's";
  EXPECT_LT(rows.update_bytes, whole.update_bytes);
  // One row of ranks: slices of W's rows are the rank's own, nothing of them is gathered.
  const Workload one_row = of(2, "rowshard", 1);
  EXPECT_NEAR(one_row.gather_bytes, one_row.gradient_bytes - rows_of_w(one_row), 1);
  EXPECT_EQ(of(4, "rowshard", 1).gather_bytes, rows.gradient_bytes);
}

TEST(PlanWorkload, GpusShareSequencesByRowsAndHideMessages) {
  const auto options = options_of({"--parallel.sp=2"});
  const Workload work = plan_workload(options, kIds, 2, cluster_of("cuda"));
  ASSERT_EQ(work.sequence.size(), 1U);
  EXPECT_EQ(work.sequence[0].exchange, study::plan::Exchange::kAllGather);
  EXPECT_TRUE(work.sequence[0].hidden);
  EXPECT_TRUE(std::ranges::any_of(work.buckets, &study::plan::BucketLoad::same_place));
  const auto step = study::plan::predict_step(work, cluster_of("cuda"));
  EXPECT_GT(step.tokens_per_s, 0);
}

TEST(PlanSearch, RefusesWhatDoesNotFitAndSaysWhy) {
  const auto options = options_of();
  const auto all = search_plans(options, kIds, 1, cluster_of(), {});
  const double least = std::ranges::min(all, {}, [](const PlanCandidate& one) {
                         return one.step->memory_bytes;
                       }).step->memory_bytes;
  const auto some = search_plans(options, kIds, 1, cluster_of("cpu", least), {});
  EXPECT_EQ(some.size(), all.size());
  EXPECT_TRUE(some.front().step.has_value());
  EXPECT_EQ(some.front().layout.micro_batch, 1);
  EXPECT_THAT(some.back().refusal, HasSubstr("memory: "));
  const auto none = search_plans(options, kIds, 1, cluster_of("cpu", least / 2), {});
  EXPECT_FALSE(none.front().step.has_value());
}

TEST(PlanSearch, OrdersByTimeAndKeepsToWhatRanksCanBe) {
  const auto all = search_plans(options_of(), kIds, 4, cluster_of(), {});
  const auto end = std::ranges::find_if(all, [](const PlanCandidate& one) { return !one.step; });
  EXPECT_TRUE(std::is_sorted(all.begin(), end, [](const PlanCandidate& a, const PlanCandidate& b) {
    return a.step->step_s < b.step->step_s;
  }));
  EXPECT_TRUE(std::ranges::any_of(all, [](const PlanCandidate& one) { return one.layout.sp == 4; }));
  EXPECT_TRUE(std::ranges::any_of(all, [](const PlanCandidate& one) { return one.layout.zero == 1; }));
  const auto refusal = [&](std::int64_t ranks, const std::string& kind, const PlanChoices& choices) {
    return search_plans(options_of(), kIds, ranks, cluster_of(kind), choices).back().refusal;
  };
  EXPECT_THAT(refusal(64, "cpu", {}), HasSubstr("[link.network]"));
  EXPECT_THAT(refusal(64, "cpu", {.sp = {1}}), HasSubstr("dp = 64 ranks for 32 sequences"));
  EXPECT_THAT(refusal(4, "cpu", {.sp = {3}}), HasSubstr("sp = 3 does not divide 4 ranks"));
  const std::int64_t many = 2 * options_of().model.seq_len;
  EXPECT_THAT(refusal(many, "cpu", {.sp = {many}}), HasSubstr("positions of a sequence"));
  EXPECT_THAT(refusal(4, "cpu", {.sp = {1}, .micro_batch = {16}}), HasSubstr("has 8 sequences"));
}

TEST(PlanReport, SaysTheBestItsCostsAndWhyOthersCannotBe) {
  PlanReport report{.model = "m.ini",
                    .cluster = cluster_of("cpu", 1.2e7),
                    .vocabulary_size = kIds,
                    .tokens = 1e9,
                    .shown = 2,
                    .plans = {}};
  report.cluster.cost.gpu_hour = 3;
  report.plans.push_back({.ranks = 2,
                          .global_batch = 32,
                          .candidates = search_plans(options_of(), kIds, 2, report.cluster, {})});
  const std::string text = plan_lines(report);
  EXPECT_THAT(text, HasSubstr("2 ranks, 32 sequences a step"));
  EXPECT_THAT(text, HasSubstr("cannot be: memory"));
  EXPECT_THAT(text, HasSubstr("EUR"));
  EXPECT_THAT(text, HasSubstr("slower"));
  EXPECT_THAT(text, HasSubstr("extrapolated: 1 rank was measured"));
  const auto json = nlohmann::json::parse(plan_json(report));
  const auto& candidates = json["ranks"][0]["candidates"];
  EXPECT_EQ(candidates.size(), report.plans[0].candidates.size());
  double sum = 0;
  for (const auto& [cause, seconds] : candidates[0]["causes_s"].items()) sum += seconds.get<double>();
  EXPECT_NEAR(sum, candidates[0]["step_s"].get<double>(), 1e-12);
  EXPECT_TRUE(candidates.back().contains("reason"));
}

TEST(PredictedStep, RefusesAnotherPrecisionOrDeviceThanTheClusters) {
  EXPECT_THAT(faults_of([] {
                (void)predicted_step(options_of({"--train.precision=bf16", "--train.device=cuda"}), kIds, 1,
                                     cluster_of());
              }),
              testing::ElementsAre(HasSubstr("train.precision = bf16"), HasSubstr("train.device = cuda")));
}

TEST(Calibration, FindsTheTwoRatesOfProducts) {
  std::vector<TimedProduct> timed;
  for (const kernels::GemmShape& shape : {kernels::GemmShape{64, 64, 64}, {512, 64, 256}, {1024, 1024, 1024}})
    timed.push_back({shape, shape.flops() / 3e11 + shape.elements() * 4 / 5e10});
  study::plan::Device gpu;
  fit_products(timed, 4, gpu);
  EXPECT_NEAR(gpu.gemm_flops_per_s / 3e11, 1, 1e-6);
  EXPECT_NEAR(gpu.gemm_bytes_per_s / 5e10, 1, 1e-6);
}

/// What steps of a known cluster would be measured as.
MeasuredSteps measured_on(const Cluster& truth, std::int64_t ranks, std::int64_t batch, std::int64_t times) {
  MeasuredSteps steps{.options = options_of({"--parallel.bucket_mb=0.1"}), .micro_batches = times};
  steps.options.train.micro_batch = batch;
  steps.options.train.global_batch = batch * times * ranks;
  const auto step = predicted_step(steps.options, kIds, ranks, truth);
  steps.step = {.forward_s = step.forward_s,
                .backward_s = step.backward_s,
                .comm_exposed_s = step.comm_exposed_s,
                .optimizer_s = step.optimizer_s,
                .other_s = step.other_s,
                .step_s = step.step_s};
  return steps;
}

TEST(Calibration, FindsTheClusterThatItsStepsCameFrom) {
  for (const std::int64_t ranks : {1, 2}) {
    Cluster truth = cluster_of();
    truth.gpu.forward_pass_factor = 1.7;
    truth.gpu.backward_pass_factor = 0.6;
    truth.gpu.forward_layer_s = 3e-5;
    truth.gpu.backward_layer_s = 7e-5;
    truth.gpu.step_overhead_s = 1e-4;
    truth.gpu.update_bytes_per_s = 7e9;
    truth.gpu.overlap_slowdown = ranks == 1 ? 1 : 1.5;
    truth.links.node.all_reduce.bytes_per_s = 1e9;
    Cluster found = cluster_of();
    found.links = truth.links;
    Calibration measured{.vocabulary_size = kIds,
                         .ranks = ranks,
                         .once = measured_on(truth, ranks, 8, 1),
                         .twice = measured_on(truth, ranks, 8, 2),
                         .half = measured_on(truth, ranks, 4, 2)};
    fit_steps(measured, found);
    EXPECT_NEAR(found.gpu.forward_pass_factor, 1.7, 1e-6);
    EXPECT_NEAR(found.gpu.forward_layer_s, 3e-5, 1e-9);
    EXPECT_NEAR(found.gpu.backward_pass_factor, 0.6, 1e-6);
    EXPECT_NEAR(found.gpu.backward_layer_s, 7e-5, 1e-9);
    EXPECT_NEAR(found.gpu.update_bytes_per_s / 7e9, 1, 1e-6);
    EXPECT_NEAR(found.gpu.step_overhead_s, 1e-4, 1e-9);
    const auto step = predicted_step(measured.once.options, kIds, ranks, found);
    EXPECT_NEAR(step.step_s / measured.once.step.step_s, 1, 0.01);
  }
}

TEST(Calibration, AMiddlingStepIsTheSumOfItsCauses) {
  std::vector<train::StepResult> steps;
  for (int i = 0; i < 8; ++i) {  // now forward and now backward is slow; the first and the last step are odd
    train::StepResult step{.forward_s = i % 2 == 0 ? 2.0 : 1.0, .backward_s = i % 2 == 0 ? 3.0 : 5.0};
    step.optimizer_s = i == 0 ? 100 : 0.5;
    step.data_wait_s = i == 7 ? 50 : 0;
    step.step_s = step.forward_s + step.backward_s + step.optimizer_s + step.data_wait_s + 0.25;
    steps.push_back(step);
  }
  const StepCauses middle = middling_step(steps);
  EXPECT_DOUBLE_EQ(middle.step_s, middle.forward_s + middle.backward_s + middle.optimizer_s + middle.other_s);
  EXPECT_DOUBLE_EQ(middle.optimizer_s, 0.5);
  EXPECT_DOUBLE_EQ(middle.other_s, 0.25);
  EXPECT_DOUBLE_EQ(middling_step({steps[3]}).backward_s, 5.0);
}

TEST(Calibration, WhatSlowsAllRanksAtOnceIsNoSpreadOfRanks) {
  EXPECT_THAT(spread_of_ranks({{1, 1, 2}, {3, 3, 6}}), testing::Each(testing::DoubleEq(1)));
  EXPECT_THAT(spread_of_ranks({{1, 1, 2}}), testing::ElementsAre(1, 1, 2))
      << "one rank: nothing tells them apart";
  const auto apart = spread_of_ranks({{1.0, 1.0, 1.1}, {1.0, 1.0, 0.9}});
  EXPECT_NEAR(apart[4] - 1, 0.1 * std::sqrt(2.0), 1e-12);
  EXPECT_NEAR(apart[5] - 1, -0.1 * std::sqrt(2.0), 1e-12);
}

TEST(Calibration, ThinnedSamplesKeepTheirEnds) {
  std::vector<double> samples(1000);
  std::iota(samples.begin(), samples.end(), 0.0);
  std::ranges::reverse(samples);
  const auto some = thinned(samples, 5);
  EXPECT_THAT(some, testing::ElementsAre(0, 249, 499, 749, 999));
  EXPECT_EQ(thinned({3, 1}, 5), (std::vector<double>{1, 3}));
}

}  // namespace
}  // namespace sluice::cli
