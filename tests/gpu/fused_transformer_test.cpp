#include "trainer/kernels/fused_transformer.h"

#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/support/block_leaves.h"
#include "trainer/kernels/gmlp_block.h"

// GPT-2's block as one function on a GPU against the block of ATen's operators in float64 on the CPU.
namespace sluice::kernels {
namespace {

using tests::BlockLeaves;
using tests::BlockResults;
using tests::expect_near;
using tests::expect_same_bits;
using tests::gpu;
using tests::Path;

struct Case {
  std::int64_t batch;
  std::int64_t positions;
  std::int64_t width;
  std::int64_t hidden;
  std::int64_t heads;
  Activation activation;
  Mixing mixing;
};
const std::vector<Case> kCases = {{2, 40, 64, 96, 4, Activation::kGeluTanh, Mixing::kCausal},
                                  {3, 200, 64, 160, 1, Activation::kGelu, Mixing::kCausal},
                                  {1, 129, 768, 3072, 12, Activation::kGeluTanh, Mixing::kFull}};

TransformerBlock make_block(BlockLeaves& leaves, const Case& sizes, Recompute recompute) {
  const auto norm = [&]() -> Norm {
    return {.weight = leaves.leaf({sizes.width}, 1, 0.1),
            .bias = leaves.leaf({sizes.width}, 0, 0.1),
            .eps = 1e-5};
  };
  const auto linear = [&](std::int64_t out, std::int64_t in) -> Linear {
    return {leaves.leaf({out, in}, 0, 1 / std::sqrt(static_cast<double>(in))), leaves.leaf({out}, 0, 0.1)};
  };
  TransformerBlock block;
  block.attention_norm = norm();
  block.qkv = linear(3 * sizes.width, sizes.width);
  block.out = linear(sizes.width, sizes.width);
  block.mlp_norm = norm();
  block.expand = linear(sizes.hidden, sizes.width);
  block.contract = linear(sizes.width, sizes.hidden);
  block.heads = sizes.heads;
  block.activation = sizes.activation;
  block.mixing = sizes.mixing;
  block.recompute = recompute;
  return block;
}

/// Two blocks and a norm.
BlockResults run(const Case& sizes, BlockLeaves leaves, Recompute recompute = Recompute::kNone) {
  const at::Tensor drawn = leaves.rounded({sizes.batch, sizes.positions, sizes.width}, 0, 1);
  const at::Tensor x = drawn.to(residual_type(drawn.scalar_type())).set_requires_grad(true);
  const TransformerBlock first = make_block(leaves, sizes, recompute);
  const TransformerBlock second = make_block(leaves, sizes, recompute);
  const Norm last{
      .weight = leaves.leaf({sizes.width}, 1, 0.1), .bias = leaves.leaf({sizes.width}, 0, 0.1), .eps = 1e-5};
  if (leaves.path() == Path::kOracle)
    return leaves.backward(
        normalise({transformer_block(transformer_block(x, first), second), {}, {}}, last).y_Td, x);
  EXPECT_TRUE(has_fused_transformer(x, first));
  return leaves.backward(
      normalise(fused_transformer(fused_transformer({x, {}, {}}, first), second), last).y_Td, x);
}
BlockResults run_on_gpu(const Case& sizes, Path path, Recompute recompute = Recompute::kNone) {
  return run(sizes, {at::kBFloat16, gpu(), path}, recompute);
}

class FusedTransformerTest : public tests::KernelsTest {};

TEST_F(FusedTransformerTest, IsNearFloat64) {
  for (const Case& sizes : kCases) {
    const BlockResults exact = run(sizes, {at::kDouble, at::kCPU, Path::kOracle});
    const std::string positions = ", " + std::to_string(sizes.positions) + " positions";
    expect_near("fused" + positions, run_on_gpu(sizes, Path::kFused), exact, 0.05);
    expect_near("ATen" + positions, run_on_gpu(sizes, Path::kOracle), exact, 0.05);
  }
}

TEST_F(FusedTransformerTest, RunsAndRecomputesTheSameBits) {
  for (const Case& sizes : kCases) {
    const BlockResults kept = run_on_gpu(sizes, Path::kFused);
    for (const Recompute recompute : {Recompute::kNone, Recompute::kBlock})
      expect_same_bits(run_on_gpu(sizes, Path::kFused, recompute), kept);
  }
}

TEST_F(FusedTransformerTest, LeavesOtherBlocksToAten) {
  BlockLeaves leaves(at::kBFloat16, gpu(), Path::kFused);
  const TransformerBlock good = make_block(leaves, kCases[0], Recompute::kNone);
  const at::Tensor x = at::ones({2, 40, 64}, at::TensorOptions(gpu()).dtype(at::kFloat));
  EXPECT_TRUE(has_fused_transformer(x, good));
  const auto refused = [&](auto change) {
    TransformerBlock other = good;
    change(other);
    return !has_fused_transformer(x, other);
  };
  EXPECT_TRUE(refused([](TransformerBlock& b) { b.mlp_norm.kind = NormKind::kRms; }));
  EXPECT_TRUE(refused([](TransformerBlock& b) { b.activation = Activation::kSwiGlu; }));
  EXPECT_TRUE(refused([](TransformerBlock& b) { b.qkv.bias = at::Tensor(); }));
  EXPECT_TRUE(refused([](TransformerBlock& b) { b.heads = 16; })) << "4 channels of a head";
  EXPECT_TRUE(refused([](TransformerBlock& b) { b.mlp_norm.bias = b.mlp_norm.bias.detach(); }))
      << "a bias that is no leaf";
  EXPECT_FALSE(has_fused_transformer(x.cpu(), good));
}

}  // namespace
}  // namespace sluice::kernels
