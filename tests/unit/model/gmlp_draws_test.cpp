#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/support/small_model.h"
#include "trainer/kernels/gmlp_block.h"

// Dropout and stochastic depth of a gMLP: what is drawn is a pure function of (seed, sample, place).
namespace sluice::testing {
namespace {

constexpr std::int64_t kSamples = 6;

model::ModelOptions drawing(double dropout, double stochastic_depth) {
  model::ModelOptions options;
  options.layers = 3, options.d_model = 12, options.d_ffn = 20, options.seq_len = kSmallPositions;
  options.tiny_attention = 4;
  options.dropout = dropout, options.stochastic_depth = stochastic_depth;
  return options;
}

at::Tensor samples_from(std::int64_t first, std::int64_t count) {
  return at::arange(first, first + count, at::TensorOptions().dtype(at::kLong));
}

struct Step {
  double loss = 0;
  at::Tensor gradients;
};

/// All samples, in micro-batches of those sizes.
Step step(const model::ModelOptions& options, const std::vector<std::int64_t>& sizes,
          model::Recompute recompute = model::Recompute::kNone) {
  const SmallModel small = make_small_model(options, kSmallVocabulary, at::kDouble, 5, recompute);
  const at::Tensor tokens = random_tokens({kSamples, kSmallPositions}, kSmallVocabulary, 1);
  const at::Tensor targets = random_tokens({kSamples, kSmallPositions}, kSmallVocabulary, 2);
  Step result{.loss = 0, .gradients = small.gradients};
  std::int64_t first = 0;
  for (const std::int64_t size : sizes) {
    const at::Tensor loss = small.model->training_loss_sum(
        tokens.narrow(0, first, size), targets.narrow(0, first, size), samples_from(first, size));
    loss.backward();
    result.loss += loss.item<double>();
    first += size;
  }
  return result;
}

TEST(GmlpDraws, AreTheSameInAnyMicroBatchesAndWhenComputedAgain) {
  for (const auto& options : {drawing(0.4, 0), drawing(0, 0.5), drawing(0.3, 0.6)}) {
    const Step whole = step(options, {kSamples});
    const Step split = step(options, {1, 3, 2});
    EXPECT_NEAR(split.loss, whole.loss, 1e-10 * whole.loss);
    EXPECT_LT(relative_error(split.gradients, whole.gradients), 1e-12);
    for (const auto recompute : {model::Recompute::kGate, model::Recompute::kBlock}) {
      const Step again = step(options, {kSamples}, recompute);
      EXPECT_EQ(again.loss, whole.loss);
      EXPECT_TRUE(at::equal(again.gradients, whole.gradients));
    }
    EXPECT_GT(std::abs(step(drawing(0, 0), {kSamples}).loss - whole.loss), 1e-3 * whole.loss);
  }
}

TEST(GmlpDraws, AreOfTrainingAlone) {
  const SmallModel with = make_small_model(drawing(0.4, 0.4), kSmallVocabulary, at::kDouble, 5);
  const SmallModel without = make_small_model(drawing(0, 0), kSmallVocabulary, at::kDouble, 5);
  const at::Tensor tokens = random_tokens({2, kSmallPositions}, kSmallVocabulary, 1);
  const at::Tensor targets = random_tokens({2, kSmallPositions}, kSmallVocabulary, 2);
  EXPECT_TRUE(at::equal(with.model->loss_sum(tokens, targets), without.model->loss_sum(tokens, targets)));
  EXPECT_TRUE(at::equal(with.model->logits(tokens), without.model->logits(tokens)));
}

TEST(GmlpDraws, GradientIsThatOfTheLossAsDrawn) {
  const SmallModel small = make_small_model(drawing(0.3, 0.5), kSmallVocabulary, at::kDouble, 5);
  const at::Tensor tokens = random_tokens({4, kSmallPositions}, kSmallVocabulary, 1);
  const at::Tensor targets = random_tokens({4, kSmallPositions}, kSmallVocabulary, 2);
  const at::Tensor samples = samples_from(0, 4);
  small.model->training_loss_sum(tokens, targets, samples).backward();
  constexpr double kStep = 1e-6;
  for (std::size_t i = 0; i < small.leaves.size(); ++i) {
    const at::Tensor value = small.leaves[i].detach();
    const at::Tensor direction = value.sin().mul(3).add(0.5);
    const auto loss_at = [&](double shift) {
      value.add_(direction, shift);
      const double loss = small.model->training_loss_sum(tokens, targets, samples).item<double>();
      value.sub_(direction, shift);
      return loss;
    };
    const double slope = (loss_at(kStep) - loss_at(-kStep)) / (2 * kStep);
    const double expected = small.leaves[i].grad().mul(direction).sum().item<double>();
    EXPECT_NEAR(slope, expected, 1e-4 * std::max(1.0, std::abs(expected))) << small.specs[i].name;
  }
}

/// A sample skips its block or has it divided by the share that does not.
TEST(GmlpDraws, SkippedSamplesPassTheBlockByAndTheOthersMakeUpForThem) {
  constexpr std::int64_t kMany = 400;
  constexpr double kRate = 0.25;
  for (const at::ScalarType dtype : {at::kDouble, at::kBFloat16}) {
    const SmallModel small = make_small_model(drawing(0, 0), kSmallVocabulary, dtype, 5);
    kernels::GmlpBlock block;
    block.norm_weight = small.leaves[1].detach(), block.norm_bias = small.leaves[2].detach();
    block.expand_weight = small.leaves[3].detach(), block.expand_bias = small.leaves[4].detach();
    block.gate_norm_weight = small.leaves[7].detach(), block.gate_norm_bias = small.leaves[8].detach();
    block.spatial_weight = small.leaves[9].detach(), block.spatial_bias = small.leaves[10].detach();
    block.contract_weight = small.leaves[13].detach(), block.contract_bias = small.leaves[14].detach();
    const at::Tensor x = at::arange(kMany * kSmallPositions * 12, at::kDouble)
                             .sin()
                             .view({kMany, kSmallPositions, 12})
                             .to(kernels::residual_type(dtype));
    const at::Tensor branch = kernels::gmlp_block(x, block).sub(x).to(at::kDouble);
    block.skip_rate = kRate;
    const kernels::Dropout rates{.rate = 0, .seed = 7, .samples_B = samples_from(1000, kMany), .site = 0};
    const at::Tensor drawn = kernels::gmlp_block(x, block, rates);
    const at::Tensor added = drawn.sub(x).to(at::kDouble);
    std::int64_t skipped = 0;
    for (std::int64_t b = 0; b < kMany; ++b) {
      if (at::equal(drawn[b], x[b]))
        ++skipped;
      else
        EXPECT_LT(relative_error(added[b], branch[b].div(1 - kRate)), dtype == at::kDouble ? 1e-10 : 1e-5);
    }
    const double expected = kRate * kMany;
    EXPECT_NEAR(static_cast<double>(skipped), expected, 5 * std::sqrt(expected * (1 - kRate)));
  }
}

}  // namespace
}  // namespace sluice::testing
