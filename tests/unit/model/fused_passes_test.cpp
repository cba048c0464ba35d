#include "trainer/kernels/fused_passes.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <vector>

#include "tests/support/fused_block_conformance.h"
#include "tests/support/fused_passes_conformance.h"
#include "tests/support/kernel_tensors.h"

// The fused passes of a block, and the block, on a CPU.
namespace sluice::tests {

INSTANTIATE_TEST_SUITE_P(Cpu, FusedPassesTest, ::testing::Values(at::Device(at::kCPU)));
INSTANTIATE_TEST_SUITE_P(Cpu, FusedBlockTest, ::testing::Values(at::Device(at::kCPU)));

namespace {

using namespace kernels;

constexpr double kEps = 1e-5;

class FusedCpuPasses : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_fused_passes(at::zeros({1}), at::kFloat, {1})) GTEST_SKIP() << "no passes for this processor";
  }
};

/// All that the backward passes write and add up.
std::vector<at::Tensor> backward_results(const at::Tensor& x, const at::Tensor& dy) {
  const std::int64_t width = x.size(1), positions = x.size(0) / 3;
  const at::Tensor weight = normal({width}, 3);
  const at::Tensor dx = at::empty_like(x);
  std::vector<at::Tensor> sums;
  const auto sum = [&](std::int64_t size) { return sums.emplace_back(normal({size}, sums.size())); };
  const GeluNorm forward = gelu_norm_forward(x, weight, weight, kEps);
  gelu_norm_backward(dy, x, weight, forward.statistics, dx, {sum(width), sum(width), sum(width)});
  const at::Tensor dgated = at::empty_like(x);
  const GateGradient gate =
      gate_backward(dy, x, forward.y, {}, positions, dgated, {sum(positions), sum(width)});
  const ResidualNorm norm = residual_norm_forward(x, dy, weight, weight, weight, kEps);
  const ResidualGradient of_norm =
      residual_norm_backward(dy, x, norm.sum, weight, norm.statistics, {sum(width), sum(width), sum(width)});
  sums.insert(sums.end(), {forward.y, dx, dgated, gate.mixed, gate.z, norm.y, of_norm.x});
  return sums;
}

TEST_F(FusedCpuPasses, HaveTheSameBitsOnAnyNumberOfThreads) {
  const int before = at::get_num_threads();
  for (const std::int64_t width : {24, 513}) {
    const at::Tensor x = normal({3 * 211, width}, 1), dy = normal({3 * 211, width}, 2);
    at::set_num_threads(1);
    const std::vector<at::Tensor> alone = backward_results(x, dy);
    for (const int threads : {2, 3, 5}) {
      at::set_num_threads(threads);
      const std::vector<at::Tensor> shared = backward_results(x, dy);
      for (std::size_t i = 0; i < alone.size(); ++i)
        EXPECT_TRUE(same_bits(shared[i], alone[i])) << "tensor " << i << ", " << threads << " threads";
    }
  }
  at::set_num_threads(before);
}

TEST_F(FusedCpuPasses, RefuseWhatTheyCannotRead) {
  const at::Tensor good = at::zeros({4, 16});
  const at::Tensor vector = at::zeros({16});
  const auto gelu = [&](const at::Tensor& input) { (void)gelu_norm_forward(input, vector, vector, kEps); };
  EXPECT_NO_THROW(gelu(good));
  EXPECT_NO_THROW(gelu(at::zeros({4, 21}).narrow(1, 3, 16)));
  EXPECT_THROW(gelu(at::zeros({16, 4}).t()), c10::Error) << "transposed";
  EXPECT_THROW(gelu(at::zeros({4, 16}, at::kDouble)), c10::Error);
  EXPECT_THROW(gelu(at::zeros({4, 16}, at::kBFloat16)), c10::Error);
  EXPECT_THROW(gelu(at::zeros({4, 12})), c10::Error) << "weight of another width";
  EXPECT_THROW(gelu(at::zeros({0, 16})), c10::Error);
  EXPECT_THROW((void)residual_norm_forward(at::zeros({4, 32}).narrow(1, 0, 16), {}, {}, vector, vector, kEps),
               c10::Error);
  EXPECT_THROW((void)residual_norm_forward(good, good, {}, vector, vector, kEps), c10::Error);
  EXPECT_THROW((void)gate_forward(good, good, {}, 3), c10::Error) << "4 rows of 3 positions";
  EXPECT_THROW((void)gate_forward(good, good.narrow(0, 0, 3), {}, 1), c10::Error);
  const GateSums doubles = {vector.narrow(0, 0, 4).to(at::kDouble), vector};
  EXPECT_THROW((void)gate_backward(good, good, good, {}, 4, at::zeros_like(good), doubles), c10::Error);
  EXPECT_FALSE(has_fused_passes(good, at::kBFloat16, {16}));
  EXPECT_FALSE(has_fused_passes(good.to(at::kDouble), at::kDouble, {16}));
  EXPECT_TRUE(has_fused_passes(good, at::kFloat, {3, 10'000}));
}

}  // namespace
}  // namespace sluice::tests
