#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/unit/cli/faults.h"
#include "trainer/cli/option_table.h"
#include "trainer/optim/schedule.h"

namespace sluice::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

train::RunOptions with(const std::string& schedule, std::int64_t steps) {
  auto options =
      parse_run_options({"--run.dir=r", "--data.corpus=c", "--train.steps=" + std::to_string(steps)});
  options.optim.schedule = schedule;
  return options;
}

TEST(OptionResume, TheSameOptionsDifferInNothing) {
  const auto options = with("cosine", 100);
  EXPECT_THAT(compare_for_resume(options, options, 50).warnings, IsEmpty());
  EXPECT_THAT(compare_for_resume(options, options, 50).refusals, IsEmpty());
}

TEST(OptionResume, EachKeyIsTreatedAsItsRowSays) {
  const auto before = with("constant", 100);
  for (const auto& row : option_table()) {
    if (row.on_resume == OnResume::kSchedule) continue;
    // Another value that the row takes.
    train::RunOptions now = before;
    for (const std::string text : {"true",
                                   "false",
                                   "3",
                                   "4",
                                   "1",
                                   "0.25,0.5",
                                   "elsewhere",
                                   "random-offset",
                                   "fp64",
                                   "cpu",
                                   "bf16",
                                   "gate",
                                   "off",
                                   "full",
                                   "wsd",
                                   "adam",
                                   "sinusoidal",
                                   "fan_in",
                                   "0.75",
                                   "transformer",
                                   "rms",
                                   "swiglu",
                                   "tanh",
                                   "additive",
                                   "toeplitz",
                                   "mlm",
                                   "positions_only",
                                   "copy_engines",
                                   "ring"}) {
      train::RunOptions other = before;
      if (row.set(other, text).empty() && row.get(other) != row.get(before)) now = other;
    }
    ASSERT_NE(row.get(now), row.get(before)) << row.key;
    const auto differences = compare_for_resume(before, now, 50);
    const auto mine = HasSubstr(row.key + ": " + row.get(before) + " -> " + row.get(now));
    if (row.on_resume == OnResume::kFree) {
      EXPECT_THAT(differences.warnings, IsEmpty()) << row.key;
      EXPECT_THAT(differences.refusals, IsEmpty()) << row.key;
    } else if (row.on_resume == OnResume::kWarn) {
      EXPECT_THAT(differences.warnings, ElementsAre(mine));
      EXPECT_THAT(differences.refusals, IsEmpty()) << row.key;
    } else {
      EXPECT_THAT(differences.refusals, ElementsAre(mine));
      EXPECT_THAT(differences.warnings, IsEmpty()) << row.key;
    }
  }
}

TEST(OptionResume, WhatBitExactResumeAndTheDataOrderNeedIsRefused) {
  for (const std::string key :
       {"data.seed", "data.window", "train.global_batch", "model.seq_len", "model.layers", "optim.kind",
        "optim.betas", "optim.schedule", "optim.warmup_steps"}) {
    for (const auto& row : option_table()) {
      if (row.key == key) {
        EXPECT_EQ(row.on_resume, OnResume::kRefuse) << key;
      }
    }
  }
}

TEST(OptionResume, StepsGrowUnderConstantAndUnderWsdBeforeItsDecay) {
  const auto refusals = [](const std::string& schedule, std::int64_t steps, std::int64_t done) {
    return compare_for_resume(with(schedule, 100), with(schedule, steps), done).refusals;
  };
  EXPECT_THAT(refusals("constant", 200, 100), IsEmpty());
  EXPECT_THAT(refusals("noam", 200, 100), IsEmpty());
  EXPECT_THAT(refusals("wsd", 200, 80), IsEmpty());
  EXPECT_THAT(refusals("wsd", 200, 81),
              ElementsAre(AllOf(HasSubstr("train.steps: 100 -> 200"), HasSubstr("at step 80"),
                                HasSubstr("has done 81"), HasSubstr("--run.dir=NEW_DIR --train.steps=200"))));
  for (const std::string schedule : {"cosine", "linear"}) {
    EXPECT_THAT(refusals(schedule, 200, 1),
                ElementsAre(AllOf(HasSubstr("train.steps: 100 -> 200"), HasSubstr(schedule),
                                  HasSubstr("--run.dir=NEW_DIR --train.steps=200"))));
  }
  EXPECT_THAT(refusals("constant", 50, 60), ElementsAre(HasSubstr("has done 60 steps already")));
}

// The independent truth: a change that is allowed leaves every learning rate of the steps taken as it was.
RC_GTEST_PROP(OptionResume, AllowedStepsKeepEveryLearningRateSoFar, ()) {
  const auto schedule = *rc::gen::element<std::string>("constant", "linear", "cosine", "wsd", "noam");
  const auto old_steps = *rc::gen::inRange<std::int64_t>(1, 200);
  const auto new_steps = *rc::gen::inRange<std::int64_t>(1, 200);
  const auto done = *rc::gen::inRange<std::int64_t>(0, old_steps + 1);
  auto before = with(schedule, old_steps);
  auto now = with(schedule, new_steps);
  before.optim.decay_fraction = now.optim.decay_fraction = *rc::gen::inRange(0, 101) / 100.0;
  before.optim.warmup_steps = now.optim.warmup_steps = *rc::gen::inRange<std::int64_t>(0, 20);
  const bool allowed = compare_for_resume(before, now, done).refusals.empty();
  if (!allowed) return;
  for (std::int64_t step = 0; step < done; ++step) {
    RC_ASSERT(optim::learning_rate(before.optim, 64, step, old_steps) ==
              optim::learning_rate(now.optim, 64, step, new_steps));
  }
}

}  // namespace
}  // namespace sluice::cli
