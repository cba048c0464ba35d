#include "trainer/train/profile.h"

#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "parallel/trace_range.h"
#include "tests/unit/dataio/scratch.h"
#include "trainer/train/errors.h"

namespace sluice::train {
namespace {

void fake_step() {
  const parallel::TraceRange step("step");
  const parallel::TraceRange forward("forward");
  const at::Tensor square = at::ones({8, 8});
  (void)at::mm(square, square);
}

/// Names of a trace's events with their numbers.
std::map<std::string, int> events_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  const auto trace = nlohmann::json::parse(in);
  std::map<std::string, int> events;
  for (const auto& event : trace.at("traceEvents")) ++events[event.value("name", "")];
  return events;
}

TEST(Profile, WritesATraceOfTheStepsAskedFor) {
  const dataio::Scratch scratch;
  const auto file = scratch.path() / "trace.json";
  Profile profile({.file = file, .skip = 2, .steps = 3}, c10::Device(c10::kCPU));
  for (int step = 0; step < 8; ++step) {
    profile.before_step();
    EXPECT_EQ(profile.written(), step >= 5) << step;
    fake_step();
  }
  profile.finish();
  const auto events = events_of(file);
  EXPECT_EQ(events.at("step"), 3);
  EXPECT_EQ(events.at("forward"), 3);
  EXPECT_EQ(events.at("aten::mm"), 3);
}

TEST(Profile, IsOfRankZeroOrOfThoseThatItsNameTellsApart) {
  EXPECT_EQ(profile_file("trace.json", 0), "trace.json");
  EXPECT_EQ(profile_file("trace.json", 1), std::nullopt);
  EXPECT_EQ(profile_file("a/{rank}.json", 0), "a/0.json");
  EXPECT_EQ(profile_file("a/{rank}.json", 12), "a/12.json");
  EXPECT_EQ(profile_file("", 0), std::nullopt);
}

TEST(Profile, OfARunThatEndsBeforeItsStepsIsWrittenAtTheEnd) {
  const dataio::Scratch scratch;
  const auto file = scratch.path() / "trace.json";
  Profile profile({.file = file, .skip = 1, .steps = 100}, c10::Device(c10::kCPU));
  for (int step = 0; step < 3; ++step) {
    profile.before_step();
    fake_step();
  }
  EXPECT_FALSE(profile.written());
  profile.finish();
  EXPECT_TRUE(profile.written());
  EXPECT_EQ(events_of(file).at("step"), 2);
}

TEST(Profile, RefusesAFileThatCannotBeWritten) {
  const dataio::Scratch scratch;
  EXPECT_THROW(Profile({.file = scratch.path() / "missing" / "trace.json"}, c10::Device(c10::kCPU)),
               InputError);
}

TEST(TraceRange, OutsideAProfileLeavesNoTrace) { EXPECT_NO_THROW(fake_step()); }

}  // namespace
}  // namespace sluice::train
