#include "trainer/kernels/block_passes.h"

#include <ATen/ops/layer_norm.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/gpu/kernel_tensors.h"
#include "tests/support/cross_entropy_cases.h"
#include "trainer/kernels/block_kernels.h"

// The own passes of a block, forward and backward, against ATen in float64 on the CPU.
namespace sluice::kernels {
namespace {

using tests::gpu;
using tests::normal;
using tests::relative_error;
using tests::same_bits;

class PassesTest : public tests::KernelsTest {};

at::Tensor on_gpu(const at::Tensor& value, at::ScalarType type) {
  return value.to(gpu()).to(type).detach().requires_grad_(true);
}

/// What was rounded on its way to the GPU, in float64.
at::Tensor exact(const at::Tensor& leaf) { return leaf.detach().cpu().to(at::kDouble).requires_grad_(true); }

void expect_gradients(const std::vector<at::Tensor>& got, const std::vector<at::Tensor>& want, double bound,
                      const char* what) {
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_LE(relative_error(got[i].grad(), want[i].grad(), 1e-3), bound) << what << " gradient " << i;
}

struct Types {
  at::ScalarType x;
  at::ScalarType weight;
  double bound;
};
const std::vector<Types> kTypes = {
    {at::kFloat, at::kFloat, 1e-5}, {at::kFloat, at::kBFloat16, 6e-3}, {at::kBFloat16, at::kBFloat16, 6e-3}};

TEST_F(PassesTest, LayerNormEqualsFloat64) {
  for (const Types& types : kTypes) {
    for (const std::int64_t width : {128, 256, 512, 768, 1024, 1536, 2048}) {
      for (const std::int64_t rows : {1, 7, 2500}) {
        std::vector<at::Tensor> own = {on_gpu(normal({rows, width}, 1).mul(3).add(2), types.x),
                                       on_gpu(normal({width}, 2).mul(0.1).add(1), types.weight),
                                       on_gpu(normal({width}, 3), types.weight)};
        ASSERT_TRUE(has_norm_kernel(own[0], own[1])) << width;
        std::vector<at::Tensor> want = {exact(own[0]), exact(own[1]), exact(own[2])};
        const at::Tensor y = layer_norm(own[0], own[1], own[2], 1e-5);
        const at::Tensor y_want = at::layer_norm(want[0], {width}, want[1], want[2], 1e-5);
        EXPECT_EQ(y.scalar_type(), types.weight);
        EXPECT_LE(relative_error(y, y_want, 1e-3), types.bound) << width << " " << rows;
        const at::Tensor dy = on_gpu(normal({rows, width}, 4), types.weight).detach();
        y.backward(dy);
        y_want.backward(dy.cpu().to(at::kDouble));
        expect_gradients(own, want, types.bound, "layer norm");
        const at::Tensor first = own[1].grad().clone();
        own[1].mutable_grad().reset();
        layer_norm(own[0], own[1], own[2], 1e-5).backward(dy);
        EXPECT_TRUE(same_bits(own[1].grad(), first));
      }
    }
  }
}

TEST_F(PassesTest, OtherWidthsGoToAten) {
  const at::Tensor x = on_gpu(normal({5, 100}, 1), at::kFloat);
  const at::Tensor weight = on_gpu(normal({100}, 2), at::kBFloat16);
  ASSERT_FALSE(has_norm_kernel(x, weight));
  const at::Tensor y = layer_norm(x, weight, weight, 1e-5);
  EXPECT_LE(relative_error(y, at::layer_norm(exact(x), {100}, exact(weight), exact(weight), 1e-5), 1e-3),
            6e-3);
}

TEST_F(PassesTest, GateEqualsFloat64) {
  for (const Types& types : {kTypes[0], kTypes[2]}) {
    for (const std::int64_t width : {4, 68, 1536}) {
      for (const std::int64_t positions : {1, 33, 512}) {
        std::vector<at::Tensor> own = {on_gpu(normal({3, positions, width}, 1), types.x),
                                       on_gpu(normal({3, positions, width}, 2), types.x),
                                       on_gpu(normal({positions}, 3).add(1), types.x)};
        std::vector<at::Tensor> want = {exact(own[0]), exact(own[1]), exact(own[2])};
        const at::Tensor z = gate(own[0], own[1], own[2]);
        const at::Tensor z_want = want[0].mul(want[1].add(want[2].unsqueeze(1)));
        EXPECT_LE(relative_error(z, z_want, 1e-3), types.bound) << width << " " << positions;
        const at::Tensor dz = on_gpu(normal({3, positions, width}, 4), types.x).detach();
        z.backward(dz);
        z_want.backward(dz.cpu().to(at::kDouble));
        expect_gradients(own, want, types.bound, "gate");
      }
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
