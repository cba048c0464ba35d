#include "trainer/train/session.h"

#include <ATen/ops/equal.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "dataio/order.h"
#include "tests/support/small_model.h"
#include "tests/unit/train/support.h"
#include "trainer/train/errors.h"
#include "trainer/train/files.h"

namespace fs = std::filesystem;

namespace sluice::train {
namespace {

using sluice::testing::relative_error;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

/// Losses of the metrics by step; fails the test for a step that stands twice.
std::map<std::int64_t, double> losses_of(const fs::path& run, const std::string& kind) {
  std::map<std::int64_t, double> losses;
  for (const Json& line : lines_of(run / "metrics.jsonl")) {
    if (line.at("kind") != kind) continue;
    EXPECT_TRUE(losses.emplace(line.at("step"), line.at("loss")).second) << line;
  }
  return losses;
}

void expect_whole_ledger(const RunOptions& options, std::int64_t steps) {
  const auto ledger = lines_of(options.train.ledger);
  ASSERT_EQ(static_cast<std::int64_t>(ledger.size()), steps);
  for (std::int64_t i = 0; i < steps; ++i) {
    const Json& line = ledger[static_cast<std::size_t>(i)];
    EXPECT_EQ(line.at("step"), i + 1);
    EXPECT_EQ(line.at("first"), i * options.train.global_batch);
    EXPECT_EQ(line.at("count"), options.train.global_batch);
  }
}

class SessionTest : public ::testing::Test {
 protected:
  SessionTest() { make_corpus(corpus()); }
  [[nodiscard]] fs::path corpus() const { return directory_.path() / "corpus"; }
  [[nodiscard]] RunOptions options(const std::string& name) const {
    return small_run(corpus(), directory_.path() / name);
  }
  [[nodiscard]] const fs::path& root() const { return directory_.path(); }

 private:
  TemporaryDirectory directory_;
};

TEST_F(SessionTest, AnyDivisionOverRanksAndMicroBatchesTrainsTheSameModel) {
  for (const auto& [precision, tensor_limit, arena_limit] :
       {std::tuple{"fp64", 1e-10, 1e-10}, std::tuple{"fp32", 1e-4, 1e-6}}) {
    const auto train = [&, precision = precision](std::int64_t ranks, std::int64_t micro_batch) {
      RunOptions run = options(std::string(precision) + std::to_string(ranks));
      run.train.precision = precision;
      run.train.steps = 5;
      run.train.micro_batch = micro_batch;
      return run_on_ranks(ranks, run);
    };
    const RanksResult reference = train(1, 2);
    const model::ModelOptions model = options("x").model;
    const Replica replica(model, 257, reference.parameters.scalar_type(), ReplicaUse::kInference);
    for (const std::int64_t ranks : {2, 3, 4, 7}) {
      const RanksResult other = train(ranks, 2);
      EXPECT_TRUE(other.replicas_equal) << ranks;
      EXPECT_LE(relative_error(other.parameters, reference.parameters), arena_limit)
          << precision << " ranks " << ranks;
      for (std::size_t i = 0; i < replica.layout().entries().size(); ++i) {
        const auto index = static_cast<std::int64_t>(i);
        EXPECT_LE(relative_error(replica.layout().view(other.parameters, index),
                                 replica.layout().view(reference.parameters, index)),
                  tensor_limit)
            << precision << " ranks " << ranks << " " << replica.layout().entries()[i].name;
      }
      for (std::size_t step = 0; step < 5; ++step) {
        EXPECT_NEAR(other.told.losses[step], reference.told.losses[step],
                    arena_limit * reference.told.losses[step]);
      }
    }
  }
}

TEST_F(SessionTest, ATransformerTrainsAlikeOnAnyNumberOfRanksAndResumesBitExactly) {
  const auto decoder = [&](const std::string& name, std::int64_t ranks) {
    RunOptions run = options(name + std::to_string(ranks));
    run.model.kind = "transformer";
    run.model.heads = 2;
    run.model.positions = "learned";
    run.model.dropout = 0.2;
    run.train.precision = "fp64";
    if (ranks > 1) run.parallel.zero = 1, run.train.recompute = "block";
    return run;
  };
  const RanksResult reference = run_on_ranks(1, decoder("straight", 1));
  EXPECT_LT(reference.told.losses.back(), reference.told.losses.front());
  for (const std::int64_t ranks : {2, 3}) {
    const RanksResult straight = run_on_ranks(ranks, decoder("straight", ranks));
    EXPECT_TRUE(straight.replicas_equal);
    EXPECT_LE(relative_error(straight.parameters, reference.parameters), 1e-10) << ranks;
    const RunOptions stopped = decoder("stopped", ranks);
    const RanksResult first = run_on_ranks(ranks, stopped, {.stop_in_step = 7, .verdict = {}});
    EXPECT_EQ(first.outcome, TrainOutcome::kStoppedEarly);
    EXPECT_TRUE(at::equal(run_on_ranks(ranks, stopped).parameters, straight.parameters)) << ranks;
  }
}

TEST_F(SessionTest, StoppedAnywhereAndResumedIsBitExact) {
  for (const std::int64_t ranks : {1, 2}) {
    const RunOptions straight = options("straight" + std::to_string(ranks));
    const RanksResult want = run_on_ranks(ranks, straight);
    for (const std::int64_t k : {1, 5, 10, 13, 19}) {
      const RunOptions stopped = options(fmt::format("stopped{}-{}", ranks, k));
      const RanksResult first = run_on_ranks(ranks, stopped, {.stop_in_step = k, .verdict = {}});
      EXPECT_EQ(first.outcome, TrainOutcome::kStoppedEarly);
      const RanksResult second = run_on_ranks(ranks, stopped);
      EXPECT_EQ(second.outcome, TrainOutcome::kDone);
      EXPECT_EQ(second.told.starts.at(0).first_step, k);
      EXPECT_TRUE(at::equal(second.parameters, want.parameters)) << "ranks " << ranks << " k " << k;
      EXPECT_TRUE(at::equal(second.first_moment, want.first_moment)) << "ranks " << ranks << " k " << k;
      EXPECT_TRUE(at::equal(second.second_moment, want.second_moment)) << "ranks " << ranks << " k " << k;
      EXPECT_EQ(losses_of(stopped.run.dir, "train"), losses_of(straight.run.dir, "train"));
      EXPECT_EQ(losses_of(stopped.run.dir, "valid"), losses_of(straight.run.dir, "valid"));
      expect_whole_ledger(stopped, 20);
    }
  }
}

TEST_F(SessionTest, OtherWorldSizesGoOnWithTheDataWhereItStopped) {
  RunOptions run = options("run");
  run.train.ledger_detail = "full";
  run_on_ranks(2, run, {.stop_in_step = 6, .verdict = {}});
  run_on_ranks(1, run, {.stop_in_step = 13, .verdict = {}});
  const RanksResult last = run_on_ranks(4, run);
  EXPECT_EQ(last.outcome, TrainOutcome::kDone);
  expect_whole_ledger(run, 20);

  const RunOptions straight = options("straight");
  EXPECT_LE(relative_error(last.parameters, run_on_ranks(1, straight).parameters), 1e-5);

  // 600 tokens in windows of 8: 74 samples an epoch, each input token of an epoch exactly once.
  std::vector<std::int64_t> begins;
  for (const Json& line : lines_of(run.train.ledger)) {
    for (std::size_t i = 0; i < line.at("begin").size(); ++i) {
      begins.push_back(line["begin"][i]);
      EXPECT_EQ(line["end"][i].get<std::int64_t>() - begins.back(), 9);
    }
  }
  ASSERT_EQ(begins.size(), 160U);
  std::vector<std::int64_t> epoch(begins.begin(), begins.begin() + 74);
  std::ranges::sort(epoch);
  for (std::int64_t i = 0; i < 74; ++i) EXPECT_EQ(epoch[static_cast<std::size_t>(i)], 8 * i);
}

TEST_F(SessionTest, StateInSlicesTrainsTheSameBits) {
  for (const std::int64_t ranks : {1, 2, 3}) {
    RunOptions run = options(fmt::format("plain{}", ranks));
    const RanksResult plain = run_on_ranks(ranks, run);
    run = options(fmt::format("slices{}", ranks));
    run.parallel.zero = 1;
    const RanksResult slices = run_on_ranks(ranks, run);
    EXPECT_TRUE(slices.replicas_equal) << ranks;
    EXPECT_TRUE(at::equal(slices.parameters, plain.parameters)) << ranks;
    EXPECT_TRUE(at::equal(slices.first_moment, plain.first_moment)) << ranks;
    EXPECT_TRUE(at::equal(slices.second_moment, plain.second_moment)) << ranks;
    EXPECT_EQ(slices.told.losses, plain.told.losses) << ranks;
    const auto stored = [&](const char* kind) {
      return read_file(root() / fmt::format("{}{}", kind, ranks) / "checkpoints/latest/model.safetensors");
    };
    EXPECT_EQ(stored("slices"), stored("plain")) << ranks << " ranks";
  }
}

TEST_F(SessionTest, CheckpointsGoOnAtAnyWorldSizeWithAndWithoutSlices) {
  struct Leg {
    std::int64_t ranks;
    std::int64_t zero;
  };
  const RanksResult straight = run_on_ranks(1, options("straight"));
  const std::vector<std::vector<Leg>> journeys = {
      {{2, 1}, {1, 0}}, {{2, 1}, {3, 1}}, {{2, 0}, {2, 1}}, {{3, 1}, {2, 1}, {1, 1}}};
  for (std::size_t journey = 0; journey < journeys.size(); ++journey) {
    SCOPED_TRACE(journey);
    RunOptions run = options(fmt::format("journey{}", journey));
    RanksResult last;
    for (std::size_t leg = 0; leg < journeys[journey].size(); ++leg) {
      run.parallel.zero = journeys[journey][leg].zero;
      const bool stops = leg + 1 < journeys[journey].size();
      const auto steps = static_cast<std::int64_t>(7 * (leg + 1));
      last = run_on_ranks(journeys[journey][leg].ranks, run,
                          {.stop_in_step = stops ? steps : -1, .verdict = {}});
      EXPECT_EQ(last.outcome, stops ? TrainOutcome::kStoppedEarly : TrainOutcome::kDone);
      EXPECT_TRUE(last.replicas_equal);
    }
    const bool resized = journeys[journey].front().ranks != journeys[journey].back().ranks;
    if (resized) {
      EXPECT_THAT(last.told.warnings, ElementsAre(HasSubstr("ranks now"))) << "and nothing else differs";
    } else {
      EXPECT_TRUE(last.told.warnings.empty());
    }
    expect_whole_ledger(run, 20);
    EXPECT_LE(relative_error(last.parameters, straight.parameters), 1e-5);
    EXPECT_LE(relative_error(last.first_moment, straight.first_moment), 1e-4);
    EXPECT_LE(relative_error(last.second_moment, straight.second_moment), 1e-4);
    const auto losses = losses_of(run.run.dir, "train");
    ASSERT_EQ(losses.size(), straight.told.losses.size());
    for (const auto& [step, loss] : losses)
      EXPECT_NEAR(loss, straight.told.losses[static_cast<std::size_t>(step - 1)], 1e-5 * loss) << step;
  }
}

TEST_F(SessionTest, StoppedAndResumedInSlicesIsBitExact) {
  RunOptions run = options("straight");
  run.parallel.zero = 1;
  const RanksResult want = run_on_ranks(2, run);
  run = options("stopped");
  run.parallel.zero = 1;
  run_on_ranks(2, run, {.stop_in_step = 13, .verdict = {}});
  const RanksResult resumed = run_on_ranks(2, run);
  EXPECT_EQ(resumed.told.starts.at(0).first_step, 13);
  EXPECT_TRUE(at::equal(resumed.parameters, want.parameters));
  EXPECT_TRUE(at::equal(resumed.first_moment, want.first_moment));
  EXPECT_TRUE(at::equal(resumed.second_moment, want.second_moment));
}

TEST_F(SessionTest, FallsBackAndCutsWhatCameAfter) {
  const RunOptions run = options("run");
  const RanksResult want = run_on_ranks(1, options("straight"));
  run_on_ranks(1, run, {.stop_in_step = 12, .verdict = {}});
  std::ofstream(run.run.dir + "/checkpoints/step-000012/model.safetensors", std::ios::app) << "x";
  std::ofstream(run.run.dir + "/metrics.jsonl", std::ios::app) << "{\"kind\":\"tra";
  std::ofstream(run.train.ledger, std::ios::app) << "{\"st";
  const RanksResult resumed = run_on_ranks(1, run);
  EXPECT_THAT(resumed.told.warnings, ElementsAre(HasSubstr("step-000012")));
  EXPECT_EQ(resumed.told.starts.at(0).first_step, 10);
  EXPECT_TRUE(at::equal(resumed.parameters, want.parameters));
  EXPECT_EQ(losses_of(run.run.dir, "train").size(), 20U);
  expect_whole_ledger(run, 20);
}

TEST_F(SessionTest, ARunWithoutCheckpointStartsAnew) {
  RunOptions run = options("run");
  run.checkpoint.every = 0;
  run_on_ranks(1, run);
  fs::remove_all(run.run.dir + "/checkpoints");
  EXPECT_EQ(run_on_ranks(1, run).told.starts.at(0).first_step, 0);
  EXPECT_EQ(losses_of(run.run.dir, "train").size(), 20U);
  expect_whole_ledger(run, 20);
}

TEST_F(SessionTest, NoGoodCheckpointIsRefused) {
  const RunOptions run = options("run");
  run_on_ranks(1, run, {.stop_in_step = 3, .verdict = {}});
  fs::remove(run.run.dir + "/checkpoints/step-000003/model.safetensors");
  EXPECT_THROW(run_on_ranks(1, run), InputError);
}

TEST_F(SessionTest, AFinishedRunIsLeftAlone) {
  const RunOptions run = options("run");
  run_on_ranks(1, run);
  const std::string metrics = read_file(run.run.dir + "/metrics.jsonl");
  const RanksResult again = run_on_ranks(2, run);
  EXPECT_TRUE(again.told.losses.empty());
  EXPECT_TRUE(again.told.checkpoints.empty());
  EXPECT_EQ(read_file(run.run.dir + "/metrics.jsonl"), metrics);
}

TEST_F(SessionTest, NewRunMovesTheOldOneAside) {
  RunOptions run = options("run");
  run.train.steps = 2;
  run_on_ranks(1, run);
  run.run.new_run = true;
  run_on_ranks(1, run);
  run_on_ranks(1, run);
  EXPECT_EQ(losses_of(root() / "run.1", "train").size(), 2U);
  EXPECT_EQ(losses_of(root() / "run.1", "valid").size(), 1U);
  EXPECT_TRUE(fs::exists(root() / "run.2" / "resolved.ini"));
  EXPECT_TRUE(fs::exists(run.train.ledger + ".2"));
  expect_whole_ledger(run, 2);
}

TEST_F(SessionTest, ForeignDirectoriesCorporaLedgersAndSettingsAreRefused) {
  const auto fault = [](const RunOptions& options, const RunTricks& tricks = {}) -> std::string {
    try {
      run_on_ranks(2, options, tricks);
    } catch (const InputError& error) {
      return error.what();
    }
    return "no fault";
  };
  RunOptions foreign = options("foreign");
  fs::create_directory(foreign.run.dir);
  std::ofstream(foreign.run.dir + "/thesis.txt") << "mine";
  EXPECT_THAT(fault(foreign), HasSubstr("not a run"));
  foreign.run.new_run = true;
  EXPECT_THAT(fault(foreign), HasSubstr("not a run"));

  RunOptions submitted = options("submitted");
  fs::create_directory(submitted.run.dir);
  std::ofstream(submitted.run.dir + "/submit.sbatch") << "script";
  EXPECT_EQ(fault(submitted, {.stop_in_step = 3, .verdict = {}}), "no fault");

  RunOptions run = options("run");
  run_on_ranks(1, run, {.stop_in_step = 3, .verdict = {}});
  EXPECT_THAT(fault(run, {.stop_in_step = -1,
                          .verdict = {.warnings = {}, .refusals = {"optim.kind: cannot change"}}}),
              HasSubstr("optim.kind"));
  {
    const DirectoryLock other_job(run.run.dir);
    EXPECT_THAT(fault(run), HasSubstr("another job"));
  }
  RunOptions batch = run;
  batch.train.global_batch = 4;
  EXPECT_THAT(fault(batch), HasSubstr("train.global_batch"));
  RunOptions ledger = options("other");
  ledger.train.ledger = run.train.ledger;
  EXPECT_THAT(fault(ledger), HasSubstr("train.ledger"));

  Json other = Json::parse(read_file(corpus() / "corpus.json"));
  other["fingerprint"] = "fedcba9876543210";
  std::ofstream(corpus() / "corpus.json") << other;
  EXPECT_THAT(fault(run), HasSubstr("fingerprint"));
}

TEST_F(SessionTest, DataThatCannotServeIsNamed) {
  const auto fault = [](std::int64_t ranks, const RunOptions& options) -> std::string {
    try {
      run_on_ranks(ranks, options);
    } catch (const InputError& error) {
      return error.what();
    }
    return "no fault";
  };
  RunOptions run = options("run");
  run.model.seq_len = 600;
  EXPECT_THAT(fault(1, run), HasSubstr("fewer than one window of model.seq_len + 1 = 601"));
  run = options("run");
  run.train.global_batch = 2;
  EXPECT_THAT(fault(3, run), HasSubstr("2 sequences for 3 ranks"));
  for (const char* precision : {"bf16", "tf32"}) {
    run = options("run");
    run.train.precision = precision;
    EXPECT_THAT(fault(1, run), HasSubstr(fmt::format("train.precision: {} needs a GPU", precision)));
  }
  EXPECT_FALSE(fs::exists(run.run.dir)) << "nothing is written before all is checked";
}

TEST_F(SessionTest, MetricsAndRunFilesHaveTheirNames) {
  RunOptions run = options("run");
  run.train.steps = 10;
  run_on_ranks(2, run);
  auto lines = lines_of(run.run.dir + "/metrics.jsonl");
  ASSERT_EQ(lines.size(), 13U);
  EXPECT_EQ(lines[12]["kind"], "checkpoint");
  EXPECT_EQ(lines[12]["step"], 10);
  for (const char* key : {"stall_s", "write_s", "bytes"}) EXPECT_GT(lines[12][key].get<double>(), 0) << key;
  std::erase_if(lines,
                [](const Json& line) { return line["kind"] == "checkpoint"; });  // come when they are done
  ASSERT_EQ(lines.size(), 11U);
  for (const char* key : {"kind", "step", "tokens", "loss", "lr", "grad_norm", "tokens_per_s", "step_s",
                          "data_wait_s", "comm_exposed_s"}) {
    EXPECT_TRUE(lines[2].contains(key)) << key;
  }
  EXPECT_EQ(lines[2]["step"], 3);
  EXPECT_EQ(lines[2]["tokens"], 3 * 8 * 8);
  EXPECT_EQ(lines[10]["kind"], "valid");
  EXPECT_EQ(lines[10]["step"], 10);
  EXPECT_EQ(lines[10]["tokens"], 640);
  EXPECT_GT(lines[10]["loss"].get<double>(), 0);
  EXPECT_EQ(read_file(run.run.dir + "/resolved.ini"), "# test\n[train]\nsteps = 10\n");
}

}  // namespace
}  // namespace sluice::train
