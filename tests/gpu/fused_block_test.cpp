#include "trainer/kernels/fused_block.h"

#include "tests/support/cross_entropy_cases.h"
#include "tests/support/fused_block_conformance.h"
#include "tests/support/kernel_tensors.h"
#include "trainer/kernels/embedding.h"
#include "trainer/kernels/gmlp_block.h"

// gMLP blocks and the embedding on a GPU, forward and backward.
namespace sluice::tests {
namespace {

using namespace kernels;

constexpr std::int64_t kWidth = 24;

INSTANTIATE_TEST_SUITE_P(Gpu, FusedBlockTest, ::testing::Values(gpu()));

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
}  // namespace sluice::tests
