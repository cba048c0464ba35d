#include <cstdio>
#include <string>
#include <vector>

#include "tests/gpu/kernel_tensors.h"
#include "tests/support/cross_entropy_cases.h"
#include "trainer/kernels/embedding.h"
#include "trainer/kernels/gmlp_block.h"

// A gMLP block and the embedding on a GPU, forward and backward, against float64 on the CPU.
namespace sluice::kernels {
namespace {

using tests::gpu;
using tests::normal;
using tests::relative_error;
using tests::same_bits;

constexpr std::int64_t kBatch = 3, kPositions = 40, kWidth = 24, kHalf = 48;

struct Shape {
  std::vector<std::int64_t> sizes;
  double centre = 0;
  double scale = 1;
};
/// In GmlpBlock's order. W of a scale at which the product matters beside b.
const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all = {{{kWidth}, 1, 0.1},
                                         {{kWidth}, 0, 0.1},
                                         {{2 * kHalf, kWidth}, 0, 0.2},
                                         {{2 * kHalf}, 0, 0.1},
                                         {{kHalf}, 1, 0.1},
                                         {{kHalf}, 0, 0.1},
                                         {{kPositions, kPositions}, 0, 0.1},
                                         {{kPositions}, 1, 0.1},
                                         {{kWidth, kHalf}, 0, 0.15},
                                         {{kWidth}, 0, 0.1}};
  return all;
}

struct Results {
  at::Tensor y;
  std::vector<at::Tensor> gradients;  ///< of x, then of the parameters
};

/// Values that bfloat16 holds exactly; x in the residual stream's type.
Results run(at::ScalarType dtype, at::Device device, Recompute recompute = Recompute::kNone) {
  const auto leaf = [&](const at::Tensor& value, at::ScalarType type) {
    return value.to(at::kBFloat16).to(device, type).set_requires_grad(true);
  };
  std::vector<at::Tensor> leaves = {
      leaf(normal({kBatch, kPositions, kWidth}, 1, at::kDouble), residual_type(dtype))};
  for (const Shape& shape : shapes()) {
    const at::Tensor drawn = normal(shape.sizes, 1 + leaves.size(), at::kDouble);
    leaves.push_back(leaf(drawn.mul(shape.scale).add(shape.centre), dtype));
  }
  const GmlpBlock block = {leaves[1], leaves[2], leaves[3],  leaves[4],       leaves[5], leaves[6], leaves[7],
                           leaves[8], leaves[9], leaves[10], Mixing::kCausal, 1e-5,      recompute};
  Results results;
  results.y = gmlp_block(leaves[0], block);
  results.y.backward(
      normal({kBatch, kPositions, kWidth}, 99, at::kDouble).to(device, results.y.scalar_type()));
  for (const at::Tensor& one : leaves) results.gradients.push_back(one.grad());
  results.y = results.y.detach();
  return results;
}

class BlockKernelTest : public tests::KernelsTest {};

TEST_F(BlockKernelTest, IsNearFloat64) {
  const Results exact = run(at::kDouble, at::kCPU);
  for (const auto& [dtype, bound] : {std::pair{at::kFloat, 1e-5}, std::pair{at::kBFloat16, 0.04}}) {
    const Results got = run(dtype, gpu());
    EXPECT_EQ(got.y.scalar_type(), at::kFloat);
    const double error = relative_error(got.y, exact.y, 0);
    EXPECT_LE(error, bound);
    std::printf("%s: result %.1e, gradients", c10::toString(dtype), error);
    for (std::size_t i = 0; i < exact.gradients.size(); ++i) {
      const double of_gradient = relative_error(got.gradients[i], exact.gradients[i], 0);
      std::printf(" %.1e", of_gradient);
      EXPECT_LE(of_gradient, bound) << c10::toString(dtype) << ", gradient " << i;
    }
    std::printf("\n");
  }
}

TEST_F(BlockKernelTest, RecomputeChangesNoBit) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const Results kept = run(dtype, gpu());
    for (const Recompute recompute : {Recompute::kGate, Recompute::kBlock}) {
      const Results again = run(dtype, gpu(), recompute);
      EXPECT_TRUE(same_bits(again.y, kept.y));
      for (std::size_t i = 0; i < kept.gradients.size(); ++i)
        EXPECT_TRUE(same_bits(again.gradients[i], kept.gradients[i])) << c10::toString(dtype) << " " << i;
    }
  }
}

class EmbeddingKernelTest : public tests::KernelsTest {};

/// Few tokens, each on many rows: where ATen would add up by atomics.
TEST_F(EmbeddingKernelTest, GradientOfFewTokensIsExactAndHasTheSameBitsEachTime) {
  constexpr std::int64_t kVocabulary = 65, kRows = 20'000;
  const at::Tensor tokens = normal({kRows}, 1).abs().mul(30).clamp_max(kVocabulary - 1).to(at::kLong);
  const at::Tensor outer = normal({kRows, kWidth}, 2);
  const auto gradient = [&](at::ScalarType dtype, at::Device device) {
    const at::Tensor weight =
        normal({kVocabulary, kWidth}, 3, at::kBFloat16).to(device, dtype).set_requires_grad(true);
    const at::Tensor rows = embedding(weight, tokens.to(device));
    EXPECT_EQ(rows.scalar_type(), residual_type(dtype));
    rows.backward(outer.to(device, rows.scalar_type()));
    return weight.grad();
  };
  const at::Tensor exact = gradient(at::kDouble, at::kCPU);
  for (const auto& [dtype, bound] : {std::pair{at::kFloat, 1e-5}, std::pair{at::kBFloat16, 1.0 / 256}}) {
    const at::Tensor first = gradient(dtype, gpu());
    EXPECT_EQ(first.scalar_type(), dtype);
    EXPECT_LE(relative_error(first, exact, 0), bound);
    for (int again = 0; again < 5; ++again) EXPECT_TRUE(same_bits(gradient(dtype, gpu()), first));
  }
}

}  // namespace
}  // namespace sluice::kernels
