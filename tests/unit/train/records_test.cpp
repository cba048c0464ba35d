#include "trainer/train/records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/unit/dataio/scratch.h"
#include "trainer/train/errors.h"

namespace sluice::train {
namespace {

class CutLinesTest : public testing::Test {
 protected:
  LinesKept cut(const std::string& content, std::int64_t step) {
    std::ofstream(file(), std::ios::binary) << content;
    return cut_lines(file(), step);
  }
  [[nodiscard]] std::filesystem::path file() const { return directory_.path() / "lines.jsonl"; }
  [[nodiscard]] std::string left() const { return read_file(file()); }

 private:
  dataio::Scratch directory_;
};

constexpr const char* kThree = "{\"step\":1}\n{\"step\":2}\n{\"kind\":\"valid\",\"step\":2}\n";

TEST_F(CutLinesTest, EndsBeforeTheFirstLaterStep) {
  const LinesKept kept = cut(std::string(kThree) + "{\"step\":3}\n{\"step\":4}\n", 2);
  EXPECT_EQ(kept.lines, 3);
  EXPECT_EQ(kept.last_valid_step, 2);
  EXPECT_EQ(left(), kThree);
}

TEST_F(CutLinesTest, KeepsAWholeFile) {
  EXPECT_EQ(cut(kThree, 9).lines, 3);
  EXPECT_EQ(left(), kThree);
}

TEST_F(CutLinesTest, TornLastLineGoes) {
  for (const char* torn : {"{\"st", "{\"step\":3}", "{\"st\n"}) {
    EXPECT_EQ(cut(std::string(kThree) + torn, 9).lines, 3) << torn;
    EXPECT_EQ(left(), kThree) << torn;
  }
}

TEST_F(CutLinesTest, AnythingElseThatIsNoLineIsRefusedByNumber) {
  try {
    cut("{\"step\":1}\nnonsense\n{\"step\":2}\n", 9);
    FAIL() << "accepted";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("lines.jsonl: line 2"));
  }
  EXPECT_EQ(left(), "{\"step\":1}\nnonsense\n{\"step\":2}\n") << "left as it was";
}

TEST_F(CutLinesTest, MissingFileIsEmpty) {
  EXPECT_EQ(cut_lines(file(), 5).lines, 0);
  EXPECT_FALSE(std::filesystem::exists(file()));
}

TEST_F(CutLinesTest, ACheckpointsLineMayFollowThoseOfLaterSteps) {
  const std::string kept = std::string(kThree) + "{\"kind\":\"checkpoint\",\"step\":1}\n{\"step\":3}\n";
  EXPECT_EQ(cut(kept + "{\"step\":4}\n{\"kind\":\"checkpoint\",\"step\":3}\n", 3).lines, 5);
  EXPECT_EQ(left(), kept);
}

/// The one line that a step leaves.
nlohmann::json step_line(const StepMetrics& metrics) {
  const dataio::Scratch directory;
  const StepResult result{.loss = 2.5,
                          .lr = 1e-3,
                          .grad_norm = 0.5,
                          .data_wait_s = 0.01,
                          .forward_s = 0.1,
                          .backward_s = 0.2,
                          .comm_exposed_s = 0.03,
                          .optimizer_s = 0.04,
                          .step_s = 0.4};
  RunRecords records(directory.path(), {}, dataio::Order({.split_tokens = 100, .seq_len = 8}, 0));
  records.step(7, 7000, result, metrics);
  records.sync();
  return nlohmann::json::parse(read_file(directory.path() / "metrics.jsonl"));
}

TEST(RunRecords, TimesByCauseSumToTheStep) {
  const auto line =
      step_line({.tokens_per_s = 2500, .tokens_per_s_per_gpu = 1250, .peak_memory_bytes = 1 << 20});
  double sum = 0;
  for (const char* cause :
       {"data_wait_s", "forward_s", "backward_s", "comm_exposed_s", "optimizer_s", "other_s"})
    sum += line.at(cause).get<double>();
  EXPECT_NEAR(sum, line.at("step_s").get<double>(), 1e-12);
  EXPECT_EQ(line.at("tokens_per_s"), 2500);
  EXPECT_EQ(line.at("tokens_per_s_per_gpu"), 1250);
  EXPECT_EQ(line.at("peak_memory_bytes"), 1 << 20);
}

TEST(RunRecords, SayNothingOfWhatNobodyMeasured) {
  const auto line = step_line({});
  for (const char* key : {"mfu", "hfu", "mfu_datasheet", "power_w", "energy_per_token_j"})
    EXPECT_FALSE(line.contains(key)) << key;
}

TEST(RunRecords, GiveMfuAndEnergyWhereTheyAreKnown) {
  const auto line = step_line(
      {.mfu = 0.5, .hfu = 0.625, .mfu_datasheet = 0.375, .power_w = 600.0, .energy_per_token_j = 0.0025});
  EXPECT_EQ(line.at("mfu"), 0.5);
  EXPECT_EQ(line.at("hfu"), 0.625);
  EXPECT_EQ(line.at("mfu_datasheet"), 0.375);
  EXPECT_EQ(line.at("power_w"), 600.0);
  EXPECT_EQ(line.at("energy_per_token_j"), 0.0025);
}

}  // namespace
}  // namespace sluice::train
