#include <ATen/ops/equal.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/unit/train/support.h"
#include "trainer/train/errors.h"

// Runs that go on from another run's checkpoint (run.branch_from), and the checkpoints made for them.
namespace fs = std::filesystem;

namespace sluice::train {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class BranchTest : public ::testing::Test {
 protected:
  BranchTest() { make_corpus(directory_.path() / "corpus"); }

  /// Under wsd whose second half decays: `steps` matter from step steps / 2 on.
  [[nodiscard]] RunOptions options(const std::string& name, std::int64_t steps) const {
    RunOptions run = small_run(directory_.path() / "corpus", directory_.path() / name);
    run.optim.schedule = "wsd";
    run.optim.decay_fraction = 0.5;
    run.train.steps = steps;
    return run;
  }
  [[nodiscard]] std::string checkpoint(const std::string& run, std::int64_t step) const {
    return directory_.path() / run / fmt::format("checkpoints/step-{:06d}", step);
  }

 private:
  TemporaryDirectory directory_;
};

std::vector<std::int64_t> steps_of(const fs::path& lines) {
  std::vector<std::int64_t> steps;
  for (const auto& line : lines_of(lines)) {
    if (!line.contains("kind") || line.at("kind") == "train") steps.push_back(line.at("step"));
  }
  return steps;
}

TEST_F(BranchTest, IsTheRunThatWasPlannedSoFromTheStart) {
  RunOptions trunk = options("trunk", 20);
  trunk.checkpoint = {.every = 0, .keep = 1, .keep_every = 0, .at = {4, 7}};
  const RanksResult whole = run_on_ranks(2, trunk);
  EXPECT_THAT(whole.told.checkpoints, ElementsAre(4, 7, 20));
  const RanksResult straight = run_on_ranks(2, options("straight", 8));

  RunOptions branch = options("branch", 8);
  branch.run.branch_from = checkpoint("trunk", 4);
  const RanksResult branched = run_on_ranks(2, branch);
  EXPECT_EQ(branched.told.starts.at(0).first_step, 4);
  EXPECT_TRUE(at::equal(branched.parameters, straight.parameters));
  EXPECT_TRUE(at::equal(branched.first_moment, straight.first_moment));
  EXPECT_TRUE(at::equal(branched.second_moment, straight.second_moment));
  EXPECT_THAT(steps_of(fs::path(branch.run.dir) / "metrics.jsonl"), ElementsAre(5, 6, 7, 8));
  EXPECT_THAT(steps_of(branch.train.ledger), ElementsAre(5, 6, 7, 8));
}

TEST_F(BranchTest, StoppedItGoesOnFromItsOwnCheckpoint) {
  RunOptions trunk = options("trunk", 20);
  trunk.checkpoint.at = {4};
  run_on_ranks(1, trunk);
  RunOptions branch = options("branch", 8);
  branch.run.branch_from = checkpoint("trunk", 4);
  run_on_ranks(1, branch, {.stop_in_step = 6, .verdict = {}});
  const RanksResult resumed = run_on_ranks(1, branch);
  EXPECT_EQ(resumed.told.starts.at(0).first_step, 6);
  EXPECT_TRUE(at::equal(resumed.parameters, run_on_ranks(1, options("straight", 8)).parameters));
  EXPECT_THAT(steps_of(branch.train.ledger), ElementsAre(5, 6, 7, 8));
}

TEST_F(BranchTest, WhatIsNoCheckpointOrDoesNotFitIsRefusedAndLeavesNothing) {
  RunOptions trunk = options("trunk", 20);
  trunk.checkpoint.at = {4};
  run_on_ranks(1, trunk);
  RunOptions branch = options("branch", 8);
  const auto fault_of = [&](const std::string& from, const RunTricks& tricks = {}) -> std::string {
    branch.run.branch_from = from;
    try {
      run_on_ranks(1, branch, tricks);
    } catch (const InputError& error) {
      EXPECT_FALSE(fs::exists(branch.run.dir));
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(fault_of(checkpoint("trunk", 5)), HasSubstr("neither a checkpoint"));
  EXPECT_THAT(fault_of(checkpoint("trunk", 20)), HasSubstr("has done 20 already"));
  RunTricks refused;
  refused.verdict.refusals = {"optim.betas: cannot change"};
  EXPECT_THAT(fault_of(checkpoint("trunk", 4), refused), HasSubstr("optim.betas"));
  branch.train.global_batch *= 2;
  branch.train.micro_batch = 1;
  EXPECT_THAT(fault_of(checkpoint("trunk", 4)), HasSubstr("train.global_batch"));
}

}  // namespace
}  // namespace sluice::train
