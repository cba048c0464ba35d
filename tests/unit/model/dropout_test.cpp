#include "trainer/kernels/dropout.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "tests/support/small_model.h"
#include "trainer/kernels/philox.h"

// What is dropped is a pure function of (seed, sample, site, place), and of nothing else.
namespace sluice::testing {
namespace {

using kernels::Dropout;

/// The known answers that come with Random123, the reference implementation.
TEST(Philox, GivesTheKnownAnswers) {
  const auto check = [](kernels::PhiloxWords counter, std::uint64_t key,
                        std::array<std::uint32_t, 4> expected) {
    const kernels::PhiloxWords words = kernels::philox(counter, key);
    for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(words.at[i], expected[i]) << i;
  };
  check({{0, 0, 0, 0}}, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr std::uint32_t kOnes = 0xffffffff;
  check({{kOnes, kOnes, kOnes, kOnes}}, ~std::uint64_t{0}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  check({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0x299f31d0a4093822ULL,
        {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

Dropout of_samples(std::int64_t first, std::int64_t count, double rate = 0.3) {
  return {.rate = rate,
          .seed = 7,
          .samples_B = at::arange(first, first + count, at::TensorOptions().dtype(at::kLong)),
          .site = 2};
}

TEST(Dropout, DropsItsShareAndKeepsTheMean) {
  constexpr double kRate = 0.3;
  const at::Tensor y = kernels::dropout(at::ones({20, 5001}, at::kFloat), of_samples(0, 20, kRate));
  const auto count = static_cast<double>(y.numel());
  const double dropped = y.eq(0).sum().item<double>() / count;
  EXPECT_NEAR(dropped, kRate, 5 * std::sqrt(kRate * (1 - kRate) / count));
  EXPECT_FLOAT_EQ(y.max().item<float>(), 1 / 0.7F);
  EXPECT_EQ(y.eq(0).logical_not().sum().item<std::int64_t>(), y.eq(y.max()).sum().item<std::int64_t>());
}

TEST(Dropout, OfSamplesIsTheSameHoweverTheyAreDivided) {
  for (const std::int64_t elements : {8, 13}) {  // whole groups of four, and not
    const at::Tensor x = at::arange(1, 1 + 6 * elements, at::kDouble).view({6, elements});
    const at::Tensor whole = kernels::dropout(x, of_samples(100, 6));
    const at::Tensor split = at::cat({kernels::dropout(x.narrow(0, 0, 1), of_samples(100, 1)),
                                      kernels::dropout(x.narrow(0, 1, 5), of_samples(101, 5))});
    EXPECT_TRUE(at::equal(whole, split));
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
      EXPECT_TRUE(at::equal(kernels::dropout(x.to(type), of_samples(100, 6)).eq(0), whole.eq(0)));
  }
}

TEST(Dropout, SeedsSamplesAndSitesDrawApart) {
  const at::Tensor x = at::ones({1, 400}, at::kFloat);
  const Dropout first = of_samples(0, 1, 0.5);
  Dropout other_seed = first;
  other_seed.seed = 8;
  const at::Tensor drawn = kernels::dropout(x, first);
  for (const Dropout& other : {other_seed, of_samples(1, 1, 0.5), first.at(3)}) {
    const double differ = kernels::dropout(x, other).ne(drawn).sum().item<double>();
    EXPECT_NEAR(differ, 200, 60);
  }
  EXPECT_TRUE(at::equal(kernels::dropout(x, first), drawn));
}

TEST(Dropout, GradientIsDroppedAlike) {
  const at::Tensor x = at::ones({4, 30}, at::kDouble).set_requires_grad(true);
  const at::Tensor y = kernels::dropout(x, of_samples(0, 4));
  y.sum().backward();
  EXPECT_TRUE(at::equal(x.grad(), y.detach()));
}

TEST(Dropout, InactiveIsTheTensorItself) {
  const at::Tensor x = at::ones({4, 3}, at::kFloat);
  EXPECT_TRUE(kernels::dropout(x, {}).is_same(x));
  Dropout evaluation = of_samples(0, 4);
  evaluation.samples_B = at::Tensor();
  EXPECT_TRUE(kernels::dropout(x, evaluation).is_same(x));
  EXPECT_TRUE(kernels::dropout(x, of_samples(0, 4, 0)).is_same(x));
  EXPECT_THROW((void)kernels::dropout(x, of_samples(0, 5)), c10::Error);
}

struct Step {
  double loss = 0;
  at::Tensor gradients;
};

class TransformerDropout : public ::testing::Test {
 protected:
  static constexpr std::int64_t kVocabulary = 11, kPositions = 9;

  static std::vector<model::ModelOptions> families(double rate) {
    std::vector<model::ModelOptions> all(4, options(rate));
    all[1].positions = "relative";
    all[2].positions = "relative", all[2].attention = "positions_only", all[2].causal = false;
    all[3].kind = "mixer", all[3].d_spatial = 7, all[3].causal = false;
    return all;
  }
  static model::ModelOptions options(double rate) {
    model::ModelOptions options;
    options.kind = "transformer";
    options.layers = 2, options.d_model = 12, options.d_ffn = 20, options.heads = 3;
    options.seq_len = kPositions, options.dropout = rate;
    return options;
  }
  /// Samples 0 ... 4, in micro-batches of those sizes.
  static Step step(const model::ModelOptions& of, const std::vector<std::int64_t>& sizes,
                   model::Recompute recompute = model::Recompute::kNone) {
    const SmallModel small = make_small_model(of, kVocabulary, at::kDouble, 5, recompute);
    const at::Tensor tokens = random_tokens({5, kPositions}, kVocabulary, 1);
    const at::Tensor targets = random_tokens({5, kPositions}, kVocabulary, 2);
    Step result{.loss = 0, .gradients = small.gradients};
    std::int64_t first = 0;
    for (const std::int64_t size : sizes) {
      const at::Tensor samples = at::arange(first, first + size, at::TensorOptions().dtype(at::kLong));
      const at::Tensor loss = small.model->training_loss_sum(tokens.narrow(0, first, size),
                                                             targets.narrow(0, first, size), samples);
      loss.backward();
      result.loss += loss.item<double>();
      first += size;
    }
    return result;
  }
};

TEST_F(TransformerDropout, IsTheSameInAnyMicroBatchesAndWhenComputedAgain) {
  for (std::size_t family = 0; family < families(0).size(); ++family) {
    const model::ModelOptions with = families(0.4)[family];
    const Step whole = step(with, {5});
    const Step split = step(with, {2, 3});
    EXPECT_NEAR(split.loss, whole.loss, 1e-10 * whole.loss) << family;
    EXPECT_LT(relative_error(split.gradients, whole.gradients), 1e-12) << family;
    const Step again = step(with, {5}, model::Recompute::kBlock);
    EXPECT_EQ(again.loss, whole.loss) << family;
    EXPECT_TRUE(at::equal(again.gradients, whole.gradients)) << family;
    EXPECT_GT(std::abs(step(families(0)[family], {5}).loss - whole.loss), 1e-3 * whole.loss) << family;
  }
}

TEST_F(TransformerDropout, IsOfTrainingAlone) {
  const SmallModel with = make_small_model(options(0.4), kVocabulary, at::kDouble, 5);
  const SmallModel without = make_small_model(options(0), kVocabulary, at::kDouble, 5);
  const at::Tensor tokens = random_tokens({2, kPositions}, kVocabulary, 1);
  const at::Tensor targets = random_tokens({2, kPositions}, kVocabulary, 2);
  EXPECT_TRUE(at::equal(with.model->loss_sum(tokens, targets), without.model->loss_sum(tokens, targets)));
  EXPECT_TRUE(at::equal(with.model->logits(tokens), without.model->logits(tokens)));
}

/// The gradient is that of the loss with its draws held fixed: central differences along a random direction.
TEST_F(TransformerDropout, GradientIsThatOfTheLossAsDrawn) {
  const SmallModel small = make_small_model(options(0.4), kVocabulary, at::kDouble, 5);
  const at::Tensor tokens = random_tokens({3, kPositions}, kVocabulary, 1);
  const at::Tensor targets = random_tokens({3, kPositions}, kVocabulary, 2);
  const at::Tensor samples = at::arange(3, at::TensorOptions().dtype(at::kLong));
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

}  // namespace
}  // namespace sluice::testing
