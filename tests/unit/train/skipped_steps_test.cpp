#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/unit/train/support.h"
#include "trainer/train/errors.h"

// Steps whose loss or gradient is not finite, in whole sessions.
namespace fs = std::filesystem;

namespace sluice::train {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

std::vector<Json> metrics_of(const RunOptions& run) {
  return lines_of(fs::path(run.run.dir) / "metrics.jsonl");
}

class SkippedStepsTest : public ::testing::Test {
 protected:
  SkippedStepsTest() { make_corpus(directory_.path() / "corpus"); }
  [[nodiscard]] RunOptions options(const std::string& name) const {
    return small_run(directory_.path() / "corpus", directory_.path() / name);
  }

 private:
  TemporaryDirectory directory_;
};

TEST_F(SkippedStepsTest, StepsThatAreNotFiniteAreSkippedAndTooManyEndTheRun) {
  RunOptions run = options("run");
  run.optim.lr = 1e30;
  run.optim.clip = 0;
  run.optim.warmup_steps = 0;
  run.optim.schedule = "constant";
  run.train.max_skipped = 2;
  try {
    run_on_ranks(2, run);
    FAIL() << "it went on";
  } catch (const AgreedError& error) {
    EXPECT_THAT(error.what(), HasSubstr("3 steps in a row skipped"));
    EXPECT_THAT(error.what(), ::testing::ContainsRegex("samples [0-9]+ to [0-9]+"));
  }
  std::vector<Json> skipped;
  std::int64_t taken = 0;
  for (const Json& line : metrics_of(run)) {
    if (line.at("kind") == "skipped") skipped.push_back(line);
    if (line.at("kind") == "train") taken = line.at("step");
  }
  ASSERT_EQ(skipped.size(), 3U);
  EXPECT_EQ(skipped[0].at("step"), taken + 1);
  EXPECT_EQ(skipped[0].at("first"), taken * run.train.global_batch);
  EXPECT_EQ(skipped[0].at("count"), run.train.global_batch);
  EXPECT_TRUE(fs::exists(fs::path(run.run.dir) / "checkpoints" / fmt::format("step-{:06}", taken)))
      << "the last good state";
}

TEST_F(SkippedStepsTest, ACheckpointOfASkippedStepIsTheLastGoodState) {
  RunOptions run = options("run");
  run.optim.lr = 1e30;
  run.optim.clip = 0;
  run.optim.warmup_steps = 0;
  run.optim.schedule = "constant";
  run.train.max_skipped = 2;
  run.checkpoint.every = 1;
  run.checkpoint.keep = 1;
  EXPECT_THROW(run_on_ranks(2, run), AgreedError);
  std::int64_t skipped = 0;
  for (const Json& line : metrics_of(run))
    if (line.at("kind") == "skipped") skipped = line.at("step");
  std::vector<std::string> warnings;
  const auto found = find_checkpoint(run.run.dir, warnings);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->state.step, skipped - 1) << "it holds the parameters of the last step taken";
  EXPECT_TRUE(warnings.empty());
  EXPECT_EQ(fs::canonical(fs::path(run.run.dir) / "checkpoints" / "latest"), fs::canonical(found->directory));
}

}  // namespace
}  // namespace sluice::train
