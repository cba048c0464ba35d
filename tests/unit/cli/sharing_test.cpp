#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/cli/faults.h"
#include "trainer/cli/option_table.h"

namespace sluice::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> parse_faults(const std::vector<std::string>& words) {
  return faults_of([&] { (void)parse_run_options(valid_words(words)); });
}

TEST(SharedSequences, WhatRanksCannotShareIsRefusedWithItsNumbers) {
  EXPECT_TRUE(parse_faults({"--parallel.sp=2", "--parallel.sp_mode=ring"}).empty());
  EXPECT_THAT(parse_faults({"--parallel.sp=0"}), ElementsAre(HasSubstr("parallel.sp")));
  EXPECT_THAT(parse_faults({"--parallel.sp_mode=star"}), ElementsAre(HasSubstr("alltoall")));
  EXPECT_THAT(parse_faults({"--parallel.sp=9", "--model.seq_len=8"}),
              ElementsAre(HasSubstr("parallel.sp = 9: must be at most model.seq_len = 8")));
  EXPECT_THAT(parse_faults({"--parallel.sp=2", "--model.token_shift=1"}),
              ElementsAre(HasSubstr("model.token_shift is 0, not 1")));
  EXPECT_THAT(parse_faults({"--parallel.sp=2", "--model.dropout=0.1"}),
              ElementsAre(HasSubstr("model.dropout is 0, not 0.1")));
  EXPECT_TRUE(parse_faults({"--parallel.sp=2", "--model.kind=transformer"}).empty());
  EXPECT_THAT(parse_faults({"--parallel.sp=2", "--parallel.sp_mode=ring", "--model.kind=transformer"}),
              ElementsAre(HasSubstr("auto, alltoall or rowshard for a transformer")));
  EXPECT_TRUE(parse_faults({"--parallel.sp=2", "--parallel.sp_mode=alltoall", "--model.kind=transformer",
                            "--model.heads=4"})
                  .empty());
  EXPECT_THAT(parse_faults({"--parallel.sp=3", "--parallel.sp_mode=alltoall", "--model.kind=transformer",
                            "--model.heads=4"}),
              ElementsAre(HasSubstr("which deals out heads, not 4")));
  EXPECT_THAT(parse_faults(
                  {"--parallel.sp=2", "--model.kind=mixer", "--model.causal=false", "--train.objective=mlm"}),
              ElementsAre(HasSubstr("gmlp or transformer, not mixer")));
  EXPECT_THAT(parse_faults({"--parallel.sp=2", "--parallel.sp_mode=alltoall", "--model.spatial_heads=2"}),
              ElementsAre(HasSubstr("model.spatial_heads = 2")));
}

}  // namespace
}  // namespace sluice::cli
