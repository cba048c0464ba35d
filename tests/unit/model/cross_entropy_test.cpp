#include "trainer/kernels/cross_entropy.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "tests/support/cross_entropy_cases.h"
#include "trainer/kernels/autograd.h"
#include "trainer/kernels/embedding.h"

namespace sluice::tests {
namespace {

/// Each result of `actual` within `bound` of the largest value of the reference's, or of 1: terms of about 1
/// may cancel.
void expect_close(const HeadResult& actual, const HeadResult& expected, double bound, const HeadCase& c) {
  EXPECT_LE(relative_error(actual.loss, expected.loss, 1.0), bound) << c;
  EXPECT_LE(relative_error(actual.x_Td, expected.x_Td, 1.0), bound) << c;
  EXPECT_LE(relative_error(actual.weight_Vd, expected.weight_Vd, 1.0), bound) << c;
  ASSERT_EQ(actual.bias_V.defined(), c.bias) << c;
  if (c.bias) {
    EXPECT_LE(relative_error(actual.bias_V, expected.bias_V, 1.0), bound) << c;
  }
}

RC_GTEST_PROP(LinearCrossEntropy, EqualsLossOfFullLogits, ()) {
  const HeadCase c = {.rows = *rc::gen::inRange(1, 40),
                      .width = *rc::gen::inRange(1, 20),
                      .vocabulary = *rc::gen::inRange(2, 70),
                      .chunk_rows = *rc::gen::inRange(0, 17),
                      .ignored_share = *rc::gen::element(0.0, 0.3),
                      .bias = *rc::gen::arbitrary<bool>(),
                      .seed = *rc::gen::arbitrary<std::uint64_t>()};
  const Head head = make_head(c);
  const HeadResult expected = run_reference(head, 0.37);
  expect_close(run_head(head, at::kDouble, at::kCPU, c.chunk_rows, 0.37), expected, 1e-13, c);
  expect_close(run_head(head, at::kFloat, at::kCPU, c.chunk_rows, 0.37), expected, 3e-6, c);
  RC_ASSERT(!testing::Test::HasFailure());
}

TEST(LinearCrossEntropy, ChunksAreWholeTilesWithinTheirBudget) {
  for (const std::int64_t vocabulary : {2, 257, 32000, 50257, 65536, 200000}) {
    const std::int64_t rows = kernels::rows_of_chunk(vocabulary, at::kFloat);
    EXPECT_EQ(rows % 128, 0) << vocabulary;
    EXPECT_GE(rows, 1024) << vocabulary;
    EXPECT_TRUE(rows == 1024 || rows * vocabulary * 4 <= std::int64_t{256} << 20) << vocabulary;
    EXPECT_GT((rows + 128) * vocabulary * 4, std::int64_t{256} << 20) << vocabulary;
  }
}

TEST(LinearCrossEntropy, HoldsForExtremeLogits) {
  const HeadCase c = {.rows = 50, .width = 8, .vocabulary = 33, .chunk_rows = 7, .scale = 1e4};
  const Head head = make_head(c);
  const HeadResult expected = run_reference(head, 1.0);
  ASSERT_TRUE(std::isfinite(expected.loss.item<double>()));
  expect_close(run_head(head, at::kFloat, at::kCPU, c.chunk_rows, 1.0), expected, 3e-6, c);
}

TEST(LinearCrossEntropy, TakesBfloat16WithLossInFloat32) {
  const HeadCase c = {.rows = 60, .width = 16, .vocabulary = 41, .chunk_rows = 13};
  const Head head = make_head(c);
  const HeadResult actual = run_head(head, at::kBFloat16, at::kCPU, c.chunk_rows, 0.37);
  EXPECT_EQ(actual.loss.scalar_type(), at::kFloat);
  EXPECT_EQ(actual.weight_Vd.scalar_type(), at::kBFloat16);
  const HeadResult expected = run_reference(head, 0.37);
  EXPECT_LE(relative_error(actual.loss, expected.loss, 1.0), 1e-6) << c;
  expect_close(actual, expected, 1.0 / 128, c);
}

TEST(LinearCrossEntropy, AllRowsIgnoredIsZero) {
  const HeadCase c = {.rows = 9, .width = 4, .vocabulary = 5, .ignored_share = 2};
  const HeadResult actual = run_head(make_head(c), at::kFloat, at::kCPU, 4, 1.0);
  EXPECT_EQ(actual.loss.item<float>(), 0.0F);
  EXPECT_EQ(actual.x_Td.abs().max().item<float>(), 0.0F);
  EXPECT_EQ(actual.weight_Vd.abs().max().item<float>(), 0.0F);
}

TEST(LinearCrossEntropy, GivesTheSameLossWithoutAutograd) {
  const Head head = make_head({.rows = 30, .width = 6, .vocabulary = 11});
  const at::Tensor recorded = run_head(head, at::kDouble, at::kCPU, 8, 1.0).loss;
  const c10::NoGradGuard guard;
  const at::Tensor plain =
      kernels::linear_cross_entropy(head.x_Td, head.weight_Vd, head.bias_V, head.targets_T, 8);
  EXPECT_TRUE(plain.equal(recorded));
  EXPECT_FALSE(plain.requires_grad());
}

/// What a bfloat16 replica has: a leaf that is rounded, its gradient summed in float32.
struct Rounded {
  explicit Rounded(const at::Tensor& exact)
      : sum(at::zeros(exact.sizes(), at::TensorOptions().dtype(at::kFloat))),
        leaf(kernels::make_rounded_leaf(exact.to(at::kBFloat16), sum)) {
    kernels::on_gradient_ready(leaf, [this] { ++ready; });
  }
  Rounded(const Rounded&) = delete;
  Rounded& operator=(const Rounded&) = delete;

  at::Tensor sum;
  at::Tensor leaf;
  int ready = 0;
};

TEST(LinearCrossEntropy, AddsToAWiderSumWithoutRounding) {
  const Head head = make_head({.rows = 60, .width = 16, .vocabulary = 41});
  const Rounded weight(head.weight_Vd);
  const at::Tensor x = head.x_Td.to(at::kBFloat16).set_requires_grad(true);
  Head rounded = head;
  rounded.x_Td = x.detach().to(at::kDouble);
  rounded.weight_Vd = weight.leaf.detach().to(at::kDouble);
  rounded.bias_V.reset();
  const at::Tensor expected = run_reference(rounded, 1.0).weight_Vd;
  for (int backward = 1; backward <= 2; ++backward) {
    kernels::linear_cross_entropy(x, weight.leaf, {}, head.targets_T).backward();
    EXPECT_LE(relative_error(weight.sum, expected.mul(backward), 1.0), 1.0 / 256);
    EXPECT_EQ(weight.ready, backward);
  }
  EXPECT_FALSE(weight.leaf.grad().defined());
}

TEST(LinearCrossEntropy, TiedWeightsAreCompleteOnceBothUsesHaveAdded) {
  const Head head = make_head({.rows = 60, .width = 16, .vocabulary = 41});
  const Rounded tied(head.weight_Vd);
  const at::Tensor tokens = head.targets_T.clamp_min(0).roll(1);
  const auto loss_of = [&](const at::Tensor& embedding, const at::Tensor& weight, at::ScalarType type) {
    const at::Tensor x = kernels::embedding(embedding, tokens).to(type);
    return kernels::linear_cross_entropy(x, weight, {}, head.targets_T);
  };
  loss_of(tied.leaf, tied.leaf, at::kBFloat16).backward();
  EXPECT_EQ(tied.ready, 1);
  const at::Tensor exact = tied.leaf.detach().to(at::kDouble).set_requires_grad(true);
  loss_of(exact, exact, at::kDouble).backward();
  EXPECT_LE(relative_error(tied.sum, exact.grad(), 1.0), 1.0 / 128);

  const Rounded first(head.weight_Vd);
  const Rounded last(head.weight_Vd);
  loss_of(first.leaf, last.leaf, at::kBFloat16).backward();
  EXPECT_EQ(first.ready, 1);
  EXPECT_EQ(last.ready, 1);
  EXPECT_LE(relative_error(first.sum.add(last.sum), tied.sum, 1.0), 1e-6);
}

TEST(LinearCrossEntropy, TwoBackwardsAddUp) {
  const Head head = make_head({.rows = 12, .width = 5, .vocabulary = 7});
  const at::Tensor weight = head.weight_Vd.clone().set_requires_grad(true);
  const at::Tensor loss = kernels::linear_cross_entropy(head.x_Td, weight, {}, head.targets_T);
  loss.backward({}, /*retain_graph=*/true);
  const at::Tensor once = weight.grad().clone();
  loss.backward();
  EXPECT_TRUE(weight.grad().equal(once.mul(2)));
}

TEST(LinearCrossEntropy, RefusesBadArguments) {
  const Head head = make_head({.rows = 4, .width = 5, .vocabulary = 7});
  const at::Tensor beyond = at::full({4}, 7, at::kLong);
  EXPECT_THROW((void)kernels::linear_cross_entropy(head.x_Td, head.weight_Vd, head.bias_V, beyond),
               std::exception);
  EXPECT_THROW((void)kernels::linear_cross_entropy(head.x_Td, head.weight_Vd.narrow(1, 0, 4), head.bias_V,
                                                   head.targets_T),
               c10::Error);
  EXPECT_THROW((void)kernels::linear_cross_entropy(head.x_Td, head.weight_Vd, head.bias_V,
                                                   head.targets_T.narrow(0, 0, 3)),
               c10::Error);
}

}  // namespace
}  // namespace sluice::tests
