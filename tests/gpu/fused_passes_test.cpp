#include "trainer/kernels/fused_passes.h"

#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "tests/support/fused_passes_conformance.h"
#include "tests/support/kernel_tensors.h"

// The fused passes of a block as CUDA kernels.
namespace sluice::tests {
namespace {

using namespace kernels;

constexpr double kEps = 1e-5;

INSTANTIATE_TEST_SUITE_P(Gpu, FusedPassesTest, ::testing::Values(gpu()));

class FusedGpuPasses : public KernelsTest {};

TEST_F(FusedGpuPasses, RefuseWhatTheyCannotRead) {
  const auto options = at::TensorOptions(gpu()).dtype(at::kBFloat16);
  const at::Tensor good = at::zeros({4, 16}, options);
  const at::Tensor vector = at::zeros({16}, options);
  const auto gelu = [&](const at::Tensor& input) { (void)gelu_norm_forward(input, vector, vector, kEps); };
  EXPECT_NO_THROW(gelu(good));
  EXPECT_NO_THROW(gelu(at::zeros({4, 24}, options).narrow(1, 8, 16)));
  EXPECT_THROW(gelu(at::zeros({16, 4}, options).t()), c10::Error) << "transposed";
  EXPECT_THROW(gelu(at::zeros({4, 20}, options).narrow(1, 0, 16)), c10::Error) << "rows not aligned";
  EXPECT_THROW(gelu(at::zeros({4, 24}, options).narrow(1, 4, 16)), c10::Error) << "first row not aligned";
  EXPECT_THROW(gelu(at::zeros({4, 16}, options.dtype(at::kHalf))), c10::Error);
  EXPECT_THROW(gelu(at::zeros({4, 12}, options)), c10::Error) << "weight of another width";
  EXPECT_THROW(gelu(at::zeros({4, 16}, at::kBFloat16)), c10::Error) << "on the CPU";
  const at::Tensor wide = at::zeros({4, 32}, options).narrow(1, 0, 16);
  EXPECT_THROW((void)residual_norm_forward(wide, {}, {}, vector, vector, kEps), c10::Error);
  EXPECT_THROW((void)residual_norm_forward(good, good, {}, vector, vector, kEps), c10::Error);
  EXPECT_THROW((void)gate_forward(good, good, {}, 3), c10::Error) << "4 rows of 3 positions";
  EXPECT_THROW((void)gate_forward(good, good.narrow(0, 0, 3), {}, 1), c10::Error);
  const GateSums halves = {vector.narrow(0, 0, 4), vector};
  EXPECT_THROW((void)gate_backward(good, good, good, {}, 4, at::zeros_like(good), halves), c10::Error)
      << "sums in bfloat16";
  EXPECT_FALSE(has_fused_passes(good, at::kBFloat16, {16, 12}));
  EXPECT_FALSE(has_fused_passes(good, at::kBFloat16, {8200}));
  EXPECT_FALSE(has_fused_passes(good, at::kFloat, {16}));
  EXPECT_FALSE(has_fused_passes(good.cpu(), at::kBFloat16, {16}));
  EXPECT_TRUE(has_fused_passes(good, at::kBFloat16, {16, 8192}));
}

}  // namespace
}  // namespace sluice::tests
