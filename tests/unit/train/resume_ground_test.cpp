#include "trainer/train/resume_ground.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>

#include "trainer/kernels/product_table.h"

namespace sluice::train {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

CheckpointInfo ground() {
  CheckpointInfo info;
  info.directory = "runs/one/checkpoints/step-000010";
  info.world_size = 2;
  info.device = "NVIDIA H200";
  info.build = "sluice     0.1.0 (commit abc)\nLibTorch   2.11.0, CPU AVX512\nGPU        0 NVIDIA H200\n";
  info.choices = {{"bucket_elements", 1000}};
  return info;
}

TEST(ResumeGround, EqualGroundSaysNothing) {
  CheckpointInfo now = ground();
  now.state.step = 99;
  now.build += "GPU        1 NVIDIA H200\n";
  EXPECT_THAT(ground_differences(ground(), now), IsEmpty()) << "another GPU in the machine changes no bit";
  EXPECT_EQ(ground_warning(ground(), now), "");
}

TEST(ResumeGround, NamesEachThingThatDiffers) {
  CheckpointInfo now = ground();
  now.device = "cpu";
  now.world_size = 3;
  now.build = "sluice     0.1.0 (commit def)\nLibTorch   2.11.0, CPU AVX512\nNCCL       2.29\n";
  now.choices = {{"bucket_elements", 2000}};
  EXPECT_THAT(ground_differences(ground(), now),
              ElementsAre("device now cpu, was NVIDIA H200", "ranks now 3, were 2", "NCCL now 2.29, was none",
                          "sluice now 0.1.0 (commit def), was 0.1.0 (commit abc)",
                          "bucket_elements now 2000, was 1000"));
  EXPECT_THAT(ground_warning(ground(), now), HasSubstr("step-000010"));
  EXPECT_THAT(ground_warning(ground(), now),
              HasSubstr("promised for equal build, GPU model, number of ranks"));
  EXPECT_THAT(ground_warning(ground(), now), HasSubstr("device now cpu"));
}

TEST(ResumeGround, NamesOtherAlgorithmsOfProducts) {
  const auto with = [](std::optional<std::string> products) {
    CheckpointInfo info = ground();
    info.products = std::move(products);
    return info;
  };
  kernels::ProductTable table{.device = "NVIDIA H200", .library = 130100, .algorithms = {}};
  table.algorithms["a"] = {1};
  const std::string old = kernels::table_text(table);
  table.algorithms["b"] = {2};
  const std::string more = kernels::table_text(table);
  EXPECT_THAT(ground_differences(with(old), with(old)), IsEmpty());
  EXPECT_THAT(ground_differences(with(""), with("")), IsEmpty());
  EXPECT_THAT(ground_differences(with(std::nullopt), with(old)), IsEmpty()) << "older than the field";
  EXPECT_THAT(ground_differences(with(old), with(more)),
              ElementsAre("linear products now 2 tuned on NVIDIA H200 with cuBLASLt 130100, were 1 tuned on "
                          "NVIDIA H200 with cuBLASLt 130100"));
  EXPECT_THAT(ground_differences(with(old), with("")),
              ElementsAre("linear products now untuned, were 1 tuned on NVIDIA H200 with cuBLASLt 130100"));
}

TEST(ResumeGround, WhatAnOldCheckpointDoesNotSayCountsAsEqual) {
  CheckpointInfo before = ground();
  before.device.clear();
  before.build.clear();
  before.choices.clear();
  EXPECT_THAT(ground_differences(before, ground()), IsEmpty());
}

}  // namespace
}  // namespace sluice::train
