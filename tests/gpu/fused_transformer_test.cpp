#include "trainer/kernels/fused_transformer.h"

#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "tests/gpu/kernel_tensors.h"
#include "tests/support/cross_entropy_cases.h"
#include "trainer/kernels/autograd.h"
#include "trainer/kernels/gmlp_block.h"

// GPT-2's block as one function on a GPU against the block of ATen's operators in float64 on the CPU.
namespace sluice::kernels {
namespace {

using tests::gpu;
using tests::normal;
using tests::relative_error;
using tests::same_bits;

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

enum class Path { kOracle, kFused };

struct Results {
  at::Tensor y;
  std::vector<at::Tensor> gradients;  ///< of x, then of the parameters
};

/// Two blocks and a norm over values that bfloat16 holds exactly. Gradients of the fused path add up in
/// float32, from one on.
class Chain {
 public:
  Chain(const Case& sizes, at::ScalarType dtype, at::Device device)
      : sizes_(sizes), dtype_(dtype), device_(device) {}

  Results run(Path path, Recompute recompute = Recompute::kNone) {
    path_ = path;
    leaves_.clear();
    sums_.clear();
    const at::Tensor x = rounded({sizes_.batch, sizes_.positions, sizes_.width}, 0, 1)
                             .to(residual_type(dtype_))
                             .set_requires_grad(true);
    const TransformerBlock first = make_block(recompute), second = make_block(recompute);
    const Norm last = norm();
    Results results;
    if (path == Path::kFused) {
      EXPECT_TRUE(has_fused_transformer(x, first));
      results.y = normalise(fused_transformer(fused_transformer({x, {}, {}}, first), second), last).y_Td;
    } else {
      results.y = normalise({transformer_block(transformer_block(x, first), second), {}, {}}, last).y_Td;
    }
    results.y.backward(normal(results.y.sizes(), 99, at::kDouble).to(device_, results.y.scalar_type()));
    results.gradients.push_back(x.grad());
    for (std::size_t i = 0; i < leaves_.size(); ++i)
      results.gradients.push_back(path == Path::kFused ? sums_[i].sub(1) : leaves_[i].grad());
    results.y = results.y.detach();
    return results;
  }

  [[nodiscard]] TransformerBlock make_block(Recompute recompute) {
    TransformerBlock block;
    block.attention_norm = norm();
    block.qkv = linear(3 * sizes_.width, sizes_.width);
    block.out = linear(sizes_.width, sizes_.width);
    block.mlp_norm = norm();
    block.expand = linear(sizes_.hidden, sizes_.width);
    block.contract = linear(sizes_.width, sizes_.hidden);
    block.heads = sizes_.heads;
    block.activation = sizes_.activation;
    block.mixing = sizes_.mixing;
    block.recompute = recompute;
    return block;
  }

 private:
  at::Tensor rounded(const std::vector<std::int64_t>& shape, double centre, double scale) {
    const at::Tensor values = normal(shape, 1 + leaves_.size(), at::kDouble).mul(scale).add(centre);
    return values.to(at::kBFloat16).to(device_, dtype_);
  }
  at::Tensor leaf(const std::vector<std::int64_t>& shape, double centre, double scale) {
    const at::Tensor value = rounded(shape, centre, scale);
    if (path_ == Path::kOracle) {
      leaves_.push_back(value.set_requires_grad(true));
    } else {
      sums_.push_back(at::ones(shape, value.options().dtype(at::kFloat)));
      leaves_.push_back(make_rounded_leaf(value, sums_.back()));
    }
    return leaves_.back();
  }
  Norm norm() {
    return {.weight = leaf({sizes_.width}, 1, 0.1), .bias = leaf({sizes_.width}, 0, 0.1), .eps = 1e-5};
  }
  Linear linear(std::int64_t out, std::int64_t in) {
    return {leaf({out, in}, 0, 1 / std::sqrt(static_cast<double>(in))), leaf({out}, 0, 0.1)};
  }

  Case sizes_;
  at::ScalarType dtype_;
  at::Device device_;
  Path path_ = Path::kFused;
  std::vector<at::Tensor> leaves_;
  std::vector<at::Tensor> sums_;
};

class FusedTransformerTest : public tests::KernelsTest {};

TEST_F(FusedTransformerTest, IsNearFloat64) {
  constexpr double kBound = 0.05;
  for (const Case& sizes : kCases) {
    const Results exact = Chain(sizes, at::kDouble, at::kCPU).run(Path::kOracle);
    for (const Path path : {Path::kFused, Path::kOracle}) {
      const Results got = Chain(sizes, at::kBFloat16, gpu()).run(path);
      std::printf("%s, %d positions: result %.1e, gradients", path == Path::kFused ? "fused" : "ATen",
                  static_cast<int>(sizes.positions), relative_error(got.y, exact.y, 0));
      EXPECT_LE(relative_error(got.y, exact.y, 0), kBound);
      for (std::size_t i = 0; i < exact.gradients.size(); ++i) {
        const double error = relative_error(got.gradients[i], exact.gradients[i], 0);
        std::printf(" %.1e", error);
        EXPECT_LE(error, kBound) << "gradient " << i;
      }
      std::printf("\n");
    }
  }
}

TEST_F(FusedTransformerTest, RunsAndRecomputesTheSameBits) {
  for (const Case& sizes : kCases) {
    const Results kept = Chain(sizes, at::kBFloat16, gpu()).run(Path::kFused);
    for (const Recompute recompute : {Recompute::kNone, Recompute::kBlock}) {
      const Results again = Chain(sizes, at::kBFloat16, gpu()).run(Path::kFused, recompute);
      EXPECT_TRUE(same_bits(again.y, kept.y));
      for (std::size_t i = 0; i < kept.gradients.size(); ++i)
        EXPECT_TRUE(same_bits(again.gradients[i], kept.gradients[i])) << i;
    }
  }
}

TEST_F(FusedTransformerTest, LeavesOtherBlocksToAten) {
  Chain chain(kCases[0], at::kBFloat16, gpu());
  const TransformerBlock good = chain.make_block(Recompute::kNone);
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
