#include "trainer/cli/bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "trainer/train/errors.h"
#include "trainer/train/quantile.h"

namespace sluice::cli {
namespace {

using testing::ElementsAre;

TEST(BenchWords, FlagsOfItsOwnAndSettingsOfARunMayBeMixed) {
  const std::vector<Flag> own = {{.name = "--steps", .value_name = "N"}, {.name = "--json"}};
  const auto both =
      split_words(own, {"--config", "a.ini", "--steps", "5", "--json", "--model.layers=2", "--steps=7"});
  EXPECT_THAT(both.own, ElementsAre("--steps", "5", "--json", "--steps=7"));
  EXPECT_THAT(both.settings, ElementsAre("--config", "a.ini", "--model.layers=2"));
}

TEST(BenchOptions, NeedNoRunDirectoryNoCorpusAndNoNumberOfSteps) {
  const auto options = bench_options({"--model.layers=2"});
  EXPECT_EQ(options.data.corpus, "");
  EXPECT_EQ(options.model.layers, 2);
}

TEST(BenchOptions, TakeThoseThatAreGiven) {
  const auto options = bench_options({"--data.corpus=somewhere", "--train.steps=17"});
  EXPECT_EQ(options.data.corpus, "somewhere");
  EXPECT_EQ(options.train.steps, 17);
}

TEST(BenchOptions, RefuseWhatARunRefuses) {
  EXPECT_THROW((void)bench_options({"--model.layer=2"}), train::InputError);
  EXPECT_THROW((void)bench_options({"--model.layers=0"}), train::InputError);
}

TEST(Quantile, IsAValueOfTheSample) {
  EXPECT_EQ(train::quantile({5.0, 1.0, 3.0}, 0.5), 3.0);
  EXPECT_EQ(train::quantile({4.0, 1.0, 3.0, 2.0}, 0.5), 2.0);
  EXPECT_EQ(train::quantile({4.0, 1.0, 3.0, 2.0}, 0.0), 1.0);
  EXPECT_EQ(train::quantile({4.0, 1.0, 3.0, 2.0}, 1.0), 4.0);
  EXPECT_EQ(train::quantile({7.0}, 0.9), 7.0);
}

}  // namespace
}  // namespace sluice::cli
