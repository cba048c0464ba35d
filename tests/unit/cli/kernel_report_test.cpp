#include "trainer/cli/kernel_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "trainer/model/flops.h"

namespace sluice::cli {
namespace {

using testing::HasSubstr;

constexpr train::BlockShape kBase = {.batch = 64, .positions = 512, .width = 512, .expansion = 3072};
constexpr train::DeviceRates kRates = {.bytes_per_s = 4e12, .flops_per_s = 600e12};

double flops_of(const train::BlockShape& shape) {
  double sum = 0;
  for (const train::KernelWork& work : train::work_of_block(shape)) sum += work.flops;
  return sum;
}

/// What one layer more asks for in each token.
double layer_flops(const train::BlockShape& shape) {
  model::ModelOptions options;
  options.d_model = shape.width;
  options.d_ffn = shape.expansion;
  options.seq_len = shape.positions;
  options.causal = shape.mixing == kernels::Mixing::kCausal;
  options.layers = 1;
  const double one = model::count_flops(options, 256).useful_per_token;
  options.layers = 2;
  return model::count_flops(options, 256).useful_per_token - one;
}

TEST(KernelWork, MultipliesWhatTheModelAsksFor) {
  for (const train::BlockShape& shape :
       {kBase, train::BlockShape{.batch = 2, .positions = 129, .width = 64, .expansion = 256},
        train::BlockShape{
            .batch = 3, .positions = 40, .width = 64, .expansion = 128, .mixing = kernels::Mixing::kFull}}) {
    const double tokens = static_cast<double>(shape.batch * shape.positions);
    EXPECT_NEAR(flops_of(shape) / tokens / layer_flops(shape), 1.0, 1e-12);
  }
}

/// By hand: 32,768 rows; h = 1536; bf16, and a residual stream in float32.
TEST(KernelWork, PassesMoveEachTensorOnce) {
  const auto all = train::work_of_block(kBase);
  const auto bytes_of = [&](const std::string& name, train::Direction direction) {
    for (const train::KernelWork& work : all)
      if (work.name == name && work.direction == direction) return work.bytes;
    ADD_FAILURE() << "no kernel " << name;
    return 0.0;
  };
  constexpr double kRow = 32'768;
  EXPECT_EQ(bytes_of("norm", train::Direction::kForward), kRow * 512 * (4 + 2 + 4 + 2));
  EXPECT_EQ(bytes_of("norm", train::Direction::kBackward), kRow * 512 * (2 + 4 + 4 + 4 + 2));
  EXPECT_EQ(bytes_of("GELU and gate norm", train::Direction::kForward), kRow * 1536 * 2 * 2);
  EXPECT_EQ(bytes_of("GELU and gate norm", train::Direction::kBackward), kRow * 1536 * 2 * 3);
  EXPECT_EQ(bytes_of("gate", train::Direction::kBackward), kRow * 1536 * 2 * 6);
  constexpr double kTriangle = 512 * 513 / 2;
  EXPECT_EQ(bytes_of("spatial and gate", train::Direction::kForward), kRow * 1536 * 2 * 4 + 2 * kTriangle);
  EXPECT_EQ(bytes_of("spatial, weight", train::Direction::kBackward), kRow * 1536 * 2 * 2 + 8 * kTriangle);
  EXPECT_EQ(bytes_of("expand", train::Direction::kForward), 2 * (kRow * (512 + 3072) + 512 * 3072));
  EXPECT_EQ(bytes_of("expand, weight", train::Direction::kBackward),
            2 * kRow * (512 + 3072) + 8 * 512.0 * 3072);
}

TEST(KernelLimit, IsTheSlowerOfMemoryAndProducts) {
  const train::KernelWork pass = {"pass", train::Direction::kForward, 8e9, 0};
  const train::KernelWork product = {"product", train::Direction::kForward, 4e9, 6e12};
  EXPECT_EQ(train::limit_of(pass, kRates), train::Limit::kMemory);
  EXPECT_DOUBLE_EQ(train::least_seconds(pass, kRates), 2e-3);
  EXPECT_EQ(train::limit_of(product, kRates), train::Limit::kProducts);
  EXPECT_DOUBLE_EQ(train::least_seconds(product, kRates), 1e-2);
}

train::KernelReport example() {
  return {"a GPU",
          kBase,
          kRates,
          {{{"pass", train::Direction::kForward, 8e9, 0}, 4e-3, 20},
           {{"product", train::Direction::kBackward, 4e9, 6e12}, 12.5e-3, 31}}};
}

TEST(KernelReport, LinesNameTimeRateAndShare) {
  const std::string lines = kernel_lines(example());
  EXPECT_THAT(lines, HasSubstr("a GPU, bf16: a block of d_model 512, d_ffn 3072, 64 sequences of 512\n"));
  EXPECT_THAT(lines, HasSubstr("limits: copies 4.00 TB/s, products 600.0 TFLOP/s\n"));
  EXPECT_THAT(lines, HasSubstr("4000.0 us     2.00 TB/s"));
  EXPECT_THAT(lines, HasSubstr("50.0 % of memory\n"));
  EXPECT_THAT(lines, HasSubstr("12500.0 us   480.00 TFLOP/s"));
  EXPECT_THAT(lines, HasSubstr("80.0 % of products\n"));
  EXPECT_THAT(lines, HasSubstr("16500.0 us, 12000.0 at the limits: 72.7 %\n"));
}

TEST(KernelReport, JsonHasTheSame) {
  const auto json = nlohmann::json::parse(kernel_json(example()));
  EXPECT_EQ(json["bench"], "kernels");
  EXPECT_EQ(json["precision"], "bf16");
  ASSERT_EQ(json["kernels"].size(), 2U);
  EXPECT_EQ(json["kernels"][0]["limit"], "memory");
  EXPECT_DOUBLE_EQ(json["kernels"][0]["tb_per_s"], 2.0);
  EXPECT_DOUBLE_EQ(json["kernels"][0]["share"], 0.5);
  EXPECT_EQ(json["kernels"][1]["direction"], "backward");
  EXPECT_EQ(json["kernels"][1]["repetitions"], 31);
  EXPECT_DOUBLE_EQ(json["kernels"][1]["tflops"], 480.0);
  EXPECT_DOUBLE_EQ(json["block"]["time_s"], 16.5e-3);
  EXPECT_DOUBLE_EQ(json["block"]["share"], 12.0 / 16.5);
}

}  // namespace
}  // namespace sluice::cli
