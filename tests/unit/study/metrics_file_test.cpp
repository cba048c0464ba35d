#include "trainer/study/metrics_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/study/temporary_run.h"
#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

constexpr const char* kTrain =
    R"({"kind":"train","step":1,"tokens":8192,"loss":5.5,"lr":0.001,"grad_norm":2.5,"tokens_per_s":16384,"step_s":0.5,)"
    R"("data_wait_s":0.01,"comm_exposed_s":0.02})";
constexpr const char* kValid = R"({"kind":"valid","step":1,"tokens":8192,"loss":5.25})";

Metrics metrics_of(const std::string& text) {
  const TemporaryRun run;
  run.write("metrics.jsonl", text);
  return read_metrics(run.path() / "metrics.jsonl");
}

TEST(MetricsFile, ReadsEveryKeyOfTheFormat) {
  const auto metrics = metrics_of(std::string(kTrain) + "\n" + kValid + "\n");
  ASSERT_EQ(metrics.train.size(), 1U);
  const auto& train = metrics.train[0];
  EXPECT_EQ(train.step, 1);
  EXPECT_EQ(train.tokens, 8192);
  EXPECT_EQ(train.loss, 5.5);
  EXPECT_EQ(train.lr, 0.001);
  EXPECT_EQ(train.grad_norm, 2.5);
  EXPECT_EQ(train.tokens_per_s, 16384);
  EXPECT_EQ(train.step_s, 0.5);
  EXPECT_EQ(train.data_wait_s, 0.01);
  EXPECT_EQ(train.comm_exposed_s, 0.02);
  EXPECT_TRUE(std::isnan(train.forward_s));
  ASSERT_EQ(metrics.valid.size(), 1U);
  EXPECT_EQ(metrics.valid[0].loss, 5.25);
}

TEST(MetricsFile, ReadsTheCorporaOfAMixture) {
  const auto metrics = metrics_of(R"({"kind":"valid","step":1,"tokens":8192,"loss":2.25,"corpora":[)"
                                  R"({"corpus":"a","share":0.75,"loss":2.0,"eval_tokens":5},)"
                                  R"({"corpus":"b","share":0.25,"loss":3.0,"eval_tokens":6}]})"
                                  "\n");
  ASSERT_EQ(metrics.valid.size(), 1U);
  ASSERT_EQ(metrics.valid[0].corpora.size(), 2U);
  EXPECT_EQ(metrics.valid[0].corpora[1].corpus, "b");
  EXPECT_EQ(metrics.valid[0].corpora[1].share, 0.25);
  EXPECT_EQ(metrics.valid[0].corpora[1].loss, 3.0);
}

TEST(MetricsFile, LeavesOutATornLastLineWhereverItWasTorn) {
  const std::string torn = kTrain;
  for (std::size_t length = 0; length < torn.size(); ++length) {
    const auto metrics = metrics_of(std::string(kValid) + "\n" + torn.substr(0, length));
    EXPECT_EQ(metrics.valid.size(), 1U) << length;
    EXPECT_EQ(metrics.train.size(), 0U) << length;
  }
}

TEST(MetricsFile, RefusesABrokenLineInTheMiddleNamingIt) {
  try {
    (void)metrics_of(std::string(kTrain) + "\n{\"kind\":\"tr\n" + kValid + "\n");
    FAIL() << "no exception";
  } catch (const train::InputError& error) {
    EXPECT_THAT(error.what(),
                testing::AllOf(testing::HasSubstr("metrics.jsonl"), testing::HasSubstr("line 2")));
  }
}

TEST(MetricsFile, ALossThatIsNotFiniteIsWrittenAsNullAndReadAsNaN) {
  const auto metrics = metrics_of(R"({"kind":"train","step":3,"tokens":9,"loss":null})"
                                  "\n");
  ASSERT_EQ(metrics.train.size(), 1U);
  EXPECT_TRUE(std::isnan(metrics.train[0].loss));
}

TEST(MetricsFile, PassesOverLinesOfOtherKinds) {
  const auto metrics = metrics_of(R"({"kind":"of a later version","anything":1})"
                                  "\n" +
                                  std::string(kValid) + "\n");
  EXPECT_EQ(metrics.train.size(), 0U);
  EXPECT_EQ(metrics.valid.size(), 1U);
}

TEST(MetricsFile, NamesAFileThatCannotBeRead) {
  try {
    (void)read_metrics("/nowhere/metrics.jsonl");
    FAIL() << "no exception";
  } catch (const train::InputError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("/nowhere/metrics.jsonl"));
  }
}

}  // namespace
}  // namespace sluice::study
