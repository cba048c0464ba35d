#include "trainer/train/device_step.h"

#include <ATen/ops/equal.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "dataio/tokenizer.h"
#include "tests/support/gpu.h"
#include "tests/unit/dataio/corpus_fixture.h"
#include "tests/unit/train/support.h"
#include "trainer/train/product_choice.h"

// Whole sessions on one GPU, against the CPU's and against each other.
namespace sluice::train {
namespace {

constexpr auto kWholeTree =
    std::filesystem::copy_options::recursive | std::filesystem::copy_options::copy_symlinks;

class DeviceStepTest : public ::testing::Test {
 protected:
  DeviceStepTest() { make_corpus(directory_.path() / "corpus"); }

  /// 20 steps of four micro-batches each, each run in a directory of its own.
  [[nodiscard]] RunOptions options(const std::string& device, const std::string& precision = "fp32") {
    RunOptions run =
        small_run(directory_.path() / "corpus", directory_.path() / fmt::format("run{}", runs_++));
    run.train.device = device;
    run.train.precision = precision;
    run.train.tune = "off";  // each run would have its own algorithms, and so its own bits
    return run;
  }
  /// The same with rows of 1,024 tokens: gradients of W are written over, not cleared.
  [[nodiscard]] RunOptions long_options() {
    const std::filesystem::path corpus = directory_.path() / "long";
    if (!std::filesystem::exists(corpus)) {
      std::filesystem::create_directories(corpus);
      const auto tokenizer = dataio::make_byte_tokenizer(dataio::MaskToken::kNone);
      dataio::testing::write_corpus(corpus, {{"train", {40'000}}, {"valid", {1'100}}},
                                    tokenizer->vocabulary_size());
      tokenizer->save(corpus);
    }
    RunOptions run = options("cuda", "bf16");
    run.data.corpus = corpus.string();
    run.model.seq_len = 1'024;
    run.model.d_model = 32;
    run.model.d_ffn = 64;
    return run;
  }
  static RanksResult train(const RunOptions& run) { return run_on_ranks(1, run); }

 private:
  TemporaryDirectory directory_;
  int runs_ = 0;
};

void expect_same_bits(const RanksResult& got, const RanksResult& want) {
  EXPECT_EQ(got.told.losses, want.told.losses);
  EXPECT_TRUE(at::equal(got.parameters, want.parameters));
  EXPECT_TRUE(at::equal(got.first_moment, want.first_moment));
  EXPECT_TRUE(at::equal(got.second_moment, want.second_moment));
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    largest = std::max(largest, std::abs(a[i] - b[i]) / std::abs(b[i]));
  return largest;
}

TEST_F(DeviceStepTest, TheCpuAndTheGpuAgreeInFp32) {
  SLUICE_NEEDS_GPU();
  const RanksResult cpu = train(options("cpu"));
  const RanksResult gpu = train(options("cuda"));
  const double difference = largest_difference(gpu.told.losses, cpu.told.losses);
  std::printf("relative difference of 20 losses: %.2e\n", difference);
  EXPECT_LE(difference, 1e-5);
  EXPECT_EQ(gpu.told.valid.size(), cpu.told.valid.size());
  for (std::size_t i = 0; i < gpu.told.valid.size(); ++i)
    EXPECT_NEAR(gpu.told.valid[i].loss, cpu.told.valid[i].loss, 1e-5 * cpu.told.valid[i].loss);
}

TEST_F(DeviceStepTest, ReducedPrecisionStaysNearFp32) {
  SLUICE_NEEDS_GPU();
  const RanksResult exact = train(options("cuda"));
  for (const auto& [precision, bound] : {std::pair{"tf32", 2e-3}, std::pair{"bf16", 1e-2}}) {
    const RanksResult rounded = train(options("cuda", precision));
    const double difference = largest_difference(rounded.told.losses, exact.told.losses);
    std::printf("%s: relative difference of 20 losses: %.2e\n", precision, difference);
    EXPECT_LE(difference, bound) << precision;
  }
}

TEST_F(DeviceStepTest, CapturedGraphsGiveTheSameBits) {
  SLUICE_NEEDS_GPU();
  for (const std::string precision : {"fp32", "bf16"}) {
    for (const std::int64_t micro_batch : {2, 3, 4, 8}) {
      RunOptions run = options("cuda", precision);
      run.train.micro_batch = micro_batch;
      const RanksResult graph = train(run);
      run = options("cuda", precision);
      run.train.micro_batch = micro_batch;
      run.train.cuda_graph = "off";
      SCOPED_TRACE(fmt::format("{} micro-batch {}", precision, micro_batch));
      expect_same_bits(graph, train(run));
    }
  }
}

TEST_F(DeviceStepTest, GradientsThatAreWrittenOverGiveTheSameBitsEachWay) {
  SLUICE_NEEDS_GPU();
  for (const std::int64_t micro_batch : {2, 8}) {
    RunOptions run = long_options();
    run.train.micro_batch = micro_batch;
    const RanksResult graph = train(run);
    EXPECT_EQ(graph.told.losses.size(), 20U);
    for (const auto& [graphs, recompute] : {std::pair{"off", "none"}, std::pair{"on", "block"}}) {
      run = long_options();
      run.train.micro_batch = micro_batch;
      run.train.cuda_graph = graphs;
      run.train.recompute = recompute;
      SCOPED_TRACE(fmt::format("micro-batch {}, graphs {}, recompute {}", micro_batch, graphs, recompute));
      expect_same_bits(train(run), graph);
    }
  }
}

/// Heads of 16 channels: bf16 takes the flash kernel without dropout, captured or not.
TEST_F(DeviceStepTest, ATransformerTrainsAlikeEverywhere) {
  SLUICE_NEEDS_GPU();
  for (const auto& [positions, dropout] :
       {std::pair<std::string, double>{"learned", 0}, {"rotary", 0}, {"learned", 0.2}}) {
    const auto decoder = [&, positions = positions, dropout = dropout](const std::string& device,
                                                                       const std::string& precision) {
      RunOptions run = options(device, precision);
      run.model.kind = "transformer";
      run.model.d_model = 32;
      run.model.heads = 2;
      run.model.positions = positions;
      run.model.dropout = dropout;
      if (positions == "rotary") run.model.norm = "rms", run.model.mlp = "swiglu", run.model.bias = false;
      return run;
    };
    const RanksResult cpu = train(decoder("cpu", "fp32"));
    for (const auto& [precision, bound] : {std::pair{"fp32", 3e-5}, std::pair{"bf16", 1e-2}}) {
      SCOPED_TRACE(positions + " " + precision);
      const RanksResult graph = train(decoder("cuda", precision));
      const double difference = largest_difference(graph.told.losses, cpu.told.losses);
      std::printf("%s %s: relative difference of 20 losses: %.2e\n", positions.c_str(), precision,
                  difference);
      EXPECT_LE(difference, bound);
      RunOptions run = decoder("cuda", precision);
      run.train.cuda_graph = "off";
      run.train.recompute = "block";
      expect_same_bits(train(run), graph);
    }
  }
}

TEST_F(DeviceStepTest, RecomputedActivationsGiveTheSameBits) {
  SLUICE_NEEDS_GPU();
  for (const std::string precision : {"fp32", "bf16"}) {
    const RanksResult kept = train(options("cuda", precision));
    for (const std::string recompute : {"gate", "block"}) {
      RunOptions run = options("cuda", precision);
      run.train.recompute = recompute;
      SCOPED_TRACE(precision + " " + recompute);
      expect_same_bits(train(run), kept);
    }
  }
}

TEST_F(DeviceStepTest, StoppedAnywhereAndResumedIsBitExact) {
  SLUICE_NEEDS_GPU();
  for (const std::string precision : {"fp32", "bf16"}) {
    const RanksResult straight = train(options("cuda", precision));
    for (const std::int64_t stop : {1, 7, 18}) {
      const RunOptions run = options("cuda", precision);
      const RanksResult first = run_on_ranks(1, run, {.stop_in_step = stop, .verdict = {}});
      EXPECT_EQ(first.outcome, TrainOutcome::kStoppedEarly);
      const RanksResult second = train(run);
      SCOPED_TRACE(fmt::format("{} stopped in step {}", precision, stop));
      EXPECT_TRUE(at::equal(second.parameters, straight.parameters));
      EXPECT_TRUE(at::equal(second.second_moment, straight.second_moment));
    }
  }
}

/// The copy takes longer than the step beside which it runs: 200 MB, and hardly anything to compute.
TEST_F(DeviceStepTest, ACheckpointIsOfItsStepWhileTheNextOneRuns) {
  SLUICE_NEEDS_GPU();
  for (const std::string graphs : {"on", "off"}) {
    RunOptions run = options("cuda", "bf16");
    run.model.d_model = 1024;
    run.model.d_ffn = 4096;
    run.train.micro_batch = run.train.global_batch;
    run.train.steps = 6;
    run.train.cuda_graph = graphs;
    run.parallel.bucket_mb = 16;
    run.parallel.check_replicas_every = 0;
    run.eval.every = 0;
    run.checkpoint.every = 1;
    run.checkpoint.keep = 10;
    const RanksResult straight = train(run);
    for (const int step : {1, 3, 5}) {
      RunOptions resumed = run;
      resumed.run.dir = fmt::format("{}-from-{}", run.run.dir, step);
      resumed.train.ledger.clear();
      std::filesystem::copy(run.run.dir, resumed.run.dir, kWholeTree);
      for (int later = step + 1; later <= run.train.steps; ++later)
        std::filesystem::remove_all(resumed.run.dir + fmt::format("/checkpoints/step-{:06}", later));
      const RanksResult again = train(resumed);
      SCOPED_TRACE(fmt::format("graphs {}, from step {}", graphs, step));
      EXPECT_EQ(std::ssize(again.told.losses), run.train.steps - step);
      EXPECT_TRUE(at::equal(again.parameters, straight.parameters));
      EXPECT_TRUE(at::equal(again.second_moment, straight.second_moment));
    }
  }
}

/// Whatever timing says on each start.
TEST_F(DeviceStepTest, ATunedRunKeepsItsAlgorithms) {
  SLUICE_NEEDS_GPU();
  RunOptions run = options("cuda", "bf16");
  run.model.d_model = 64;
  run.model.d_ffn = 128;
  run.train.tune = "on";
  run.train.ledger.clear();
  EXPECT_EQ(run_on_ranks(1, run, {.stop_in_step = 7, .verdict = {}}).outcome, TrainOutcome::kStoppedEarly);
  RunOptions twin = run;
  twin.run.dir = run.run.dir + "-twin";
  std::filesystem::copy(run.run.dir, twin.run.dir, kWholeTree);
  std::vector<std::string> warnings;
  const auto stopped = find_checkpoint(run.run.dir, warnings);
  ASSERT_TRUE(stopped && stopped->products);
  std::printf("linear products: %s\n", product_summary(*stopped->products).c_str());

  const RanksResult first = train(run);
  const RanksResult second = train(twin);
  EXPECT_TRUE(first.told.warnings.empty());
  expect_same_bits(second, first);
  EXPECT_EQ(find_checkpoint(run.run.dir, warnings)->products, stopped->products);

  twin.run.dir = run.run.dir + "-untuned";
  std::filesystem::copy(run.run.dir, twin.run.dir, kWholeTree);
  twin.train.tune = "off";
  twin.train.steps += 1;
  const RanksResult untuned = train(twin);
  EXPECT_EQ(untuned.told.warnings.size(), stopped->products->empty() ? 0U : 1U);
}

TEST_F(DeviceStepTest, ARunMovesBetweenCpuAndGpu) {
  SLUICE_NEEDS_GPU();
  const RanksResult cpu = train(options("cpu"));
  RunOptions run = options("cuda");
  run_on_ranks(1, run, {.stop_in_step = 10, .verdict = {}});
  run.train.device = "cpu";
  const RanksResult moved = train(run);
  ASSERT_FALSE(moved.told.losses.empty());
  EXPECT_NEAR(moved.told.losses.back(), cpu.told.losses.back(), 1e-5 * cpu.told.losses.back());
}

}  // namespace
}  // namespace sluice::train
