#include "tests/unit/model/gmlp_variants.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "tests/support/small_model.h"
#include "trainer/kernels/autograd.h"
#include "trainer/kernels/gmlp_block.h"
#include "trainer/kernels/toeplitz.h"

// What the variants of a gMLP share, in every precision; their values are held against the equations by
// tests/parity.
namespace sluice::testing {
namespace {

constexpr std::int64_t kFewIds = 7;

class Variant : public ::testing::TestWithParam<NamedOptions> {
 protected:
  static model::ModelOptions options(bool causal) {
    model::ModelOptions options = GetParam().options;
    options.causal = causal;
    return options;
  }
  at::Tensor tokens_ = random_tokens({3, 8}, kFewIds, 11);
  at::Tensor targets_ = random_tokens({3, 8}, kFewIds, 12);
};

/// Central differences along one direction for each parameter.
TEST_P(Variant, GradientsAreSlopesOfTheLoss) {
  constexpr double kStep = 1e-6;
  for (const bool causal : {true, false}) {
    const SmallModel small = make_small_model(options(causal), kFewIds, at::kDouble, 5);
    small.model->loss_sum(tokens_, targets_).backward();
    for (std::size_t i = 0; i < small.leaves.size(); ++i) {
      const at::Tensor value = small.leaves[i].detach();
      const at::Tensor direction = value.sin().mul(3).add(0.5);
      const auto loss_at = [&](double shift) {
        value.add_(direction, shift);
        const double loss = small.model->loss_sum(tokens_, targets_).item<double>();
        value.sub_(direction, shift);
        return loss;
      };
      const double slope = (loss_at(kStep) - loss_at(-kStep)) / (2 * kStep);
      const double expected = small.leaves[i].grad().mul(direction).sum().item<double>();
      EXPECT_NEAR(slope, expected, 1e-4 * std::max(1.0, std::abs(expected))) << small.specs[i].name;
    }
  }
}

TEST_P(Variant, OfEveryPrecisionComputesTheSame) {
  for (const bool causal : {true, false}) {
    const SmallModel wide = make_small_model(options(causal), kFewIds, at::kDouble, 5);
    wide.model->loss_sum(tokens_, targets_).backward();
    for (const auto& [dtype, bound, slope_bound] :
         {std::tuple{at::kFloat, 1e-5, 1e-4}, std::tuple{at::kBFloat16, 0.06, 0.15}}) {
      const SmallModel narrow = make_small_model(options(causal), kFewIds, dtype, 5);
      EXPECT_LT(relative_error(narrow.model->logits(tokens_), wide.model->logits(tokens_)), bound);
      narrow.model->loss_sum(tokens_, targets_).backward();
      EXPECT_LT(relative_error(narrow.gradients, wide.gradients), slope_bound) << c10::toString(dtype);
    }
  }
}

TEST_P(Variant, RecomputeChangesNoBitAndTellsOfEveryGradientOnce) {
  const auto trained = [&](at::ScalarType dtype, model::Recompute recompute) {
    const SmallModel small = make_small_model(options(true), kFewIds, dtype, 5, recompute);
    std::vector<int> calls(small.leaves.size());
    for (std::size_t i = 0; i < small.leaves.size(); ++i)
      kernels::on_gradient_ready(small.leaves[i], [&calls, i] { ++calls[i]; });
    small.model->loss_sum(tokens_, targets_).backward();
    EXPECT_EQ(calls, std::vector<int>(calls.size(), 1));
    return small.gradients;
  };
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const at::Tensor kept = trained(dtype, model::Recompute::kNone);
    EXPECT_TRUE(at::equal(trained(dtype, model::Recompute::kGate), kept));
    EXPECT_TRUE(at::equal(trained(dtype, model::Recompute::kBlock), kept));
  }
}

TEST_P(Variant, OnlyACausalOneIsBlindToLaterTokens) {
  const at::Tensor changed = at::cat({tokens_.narrow(1, 0, 5), random_tokens({3, 3}, kFewIds, 13)}, 1);
  for (const bool causal : {true, false}) {
    const SmallModel small = make_small_model(options(causal), kFewIds, at::kFloat, 5);
    const at::Tensor before = small.model->logits(tokens_).narrow(1, 0, 5);
    EXPECT_EQ(at::equal(before, small.model->logits(changed).narrow(1, 0, 5)), causal);
  }
}

INSTANTIATE_TEST_SUITE_P(Gmlp, Variant, ::testing::ValuesIn(gmlp_variants()),
                         [](const auto& instance) { return instance.param.name; });

TEST(GmlpBlock, IsPlainWithoutAnyVariantButAToeplitzMatrix) {
  kernels::GmlpBlock plain;
  plain.gate_norm_weight = at::zeros({1}, at::kFloat);
  EXPECT_TRUE(kernels::is_plain(plain));
  const auto differs = [&](auto change) {
    kernels::GmlpBlock block = plain;
    change(block);
    return !kernels::is_plain(block);
  };
  EXPECT_TRUE(differs([](auto& b) { b.gate_norm_weight = at::Tensor(); }));
  EXPECT_TRUE(differs([](auto& b) { b.variant.gate = kernels::GateKind::kAdditive; }));
  EXPECT_FALSE(differs([](auto& b) { b.variant.spatial = kernels::SpatialKind::kToeplitz; }));
  EXPECT_TRUE(differs([](auto& b) { b.variant.spatial_heads = 2; }));
  EXPECT_TRUE(differs([](auto& b) { b.variant.gate_activation = kernels::GateActivation::kRelu; }));
  EXPECT_TRUE(differs([](auto& b) { b.variant.gelu = kernels::GeluForm::kTanh; }));
  EXPECT_TRUE(differs([](auto& b) { b.variant.token_shift = 1; }));
  EXPECT_TRUE(differs([](auto& b) { b.variant.attention.qkv_weight = at::zeros({3, 1}, at::kFloat); }));
}

/// The paper's appendix C, by its index arithmetic.
TEST(Toeplitz, PutsTheOldestPastFirst) {
  const at::Tensor weights = at::arange(7, at::kDouble);  // n = 4
  const auto row = [](std::initializer_list<double> values) {
    at::Tensor out = at::zeros({static_cast<std::int64_t>(values.size())}, at::kDouble);
    std::copy(values.begin(), values.end(), out.data_ptr<double>());
    return out;
  };
  const at::Tensor whole = kernels::toeplitz(weights, 4);
  EXPECT_TRUE(at::equal(whole[0], row({3, 4, 5, 6})));
  EXPECT_TRUE(at::equal(whole[1], row({2, 3, 4, 5})));
  EXPECT_TRUE(at::equal(whole[3], row({0, 1, 2, 3})));
  for (const std::int64_t positions : {1, 2, 3})
    EXPECT_TRUE(at::equal(kernels::toeplitz(weights, positions),
                          whole.narrow(0, 0, positions).narrow(1, 0, positions)));
  EXPECT_THROW((void)kernels::toeplitz(weights, 5), c10::Error);
}

/// A Toeplitz model and a free one whose W is its expansion.
TEST(Toeplitz, EqualsItsDenseExpansion) {
  constexpr std::int64_t kPositions = 6;
  for (const bool causal : {true, false}) {
    for (const std::int64_t heads : {1, 2}) {
      model::ModelOptions options;
      options.layers = 1, options.d_model = 4, options.d_ffn = 8, options.seq_len = kPositions;
      options.causal = causal, options.spatial_heads = heads, options.spatial = "toeplitz";
      const SmallModel few = make_small_model(options, kFewIds, at::kDouble, 3);
      options.spatial = "free";
      const SmallModel dense = make_small_model(options, kFewIds, at::kDouble, 4);
      const c10::NoGradGuard no_grad;
      at::Tensor weight_grad, dense_grad;
      for (std::size_t i = 0; i < few.leaves.size(); ++i) {
        if (few.specs[i].name != "blocks.0.sgu.weight") {
          dense.leaves[i].copy_(few.leaves[i]);
          continue;
        }
        const at::Tensor w = few.leaves[i].view({heads, 2 * kPositions - 1});
        const at::Tensor full = dense.leaves[i].view({heads, kPositions, kPositions});
        for (std::int64_t h = 0; h < heads; ++h)
          for (std::int64_t row = 0; row < kPositions; ++row)
            for (std::int64_t column = 0; column < kPositions; ++column)
              full[h][row][column].copy_(w[h][kPositions - 1 + column - row]);
        weight_grad = few.leaves[i].grad().view(w.sizes());
        dense_grad = dense.leaves[i].grad().view(full.sizes());
      }
      for (const std::int64_t length : {kPositions, kPositions - 2}) {
        const c10::AutoGradMode records(true);
        const at::Tensor tokens = random_tokens({2, length}, kFewIds, 8);
        const at::Tensor targets = random_tokens({2, length}, kFewIds, 9);
        EXPECT_LT(relative_error(few.model->logits(tokens), dense.model->logits(tokens)), 1e-12);
        few.model->loss_sum(tokens, targets).backward();
        dense.model->loss_sum(tokens, targets).backward();
      }
      for (std::int64_t offset = 1 - kPositions; offset < kPositions; ++offset) {
        const at::Tensor expected = dense_grad.diagonal(offset, 1, 2).sum(-1);
        EXPECT_LT(weight_grad.select(1, kPositions - 1 + offset).sub(expected).abs().max().item<double>(),
                  1e-12);
      }
    }
  }
}

}  // namespace
}  // namespace sluice::testing
