#include "tests/support/fused_block_conformance.h"

#include <ATen/ops/ones_like.h>
#include <ATen/ops/zeros.h>

#include <limits>
#include <string>
#include <vector>

#include "tests/support/block_leaves.h"
#include "trainer/kernels/fused_block.h"
#include "trainer/kernels/fused_passes.h"

namespace sluice::tests {
namespace {

using namespace kernels;

constexpr std::int64_t kWidth = 24;

struct Sizes {
  std::int64_t batch, positions, width, half;
  Mixing mixing;
  SpatialKind spatial = SpatialKind::kFree;
};
/// The last: of which ATen multiplies a bfloat16 spatial product, since rows of W are not at multiples of 16
/// bytes.
const Sizes kGpuSizes[] = {{3, 40, kWidth, 48, Mixing::kCausal},
                           {2, 264, 64, 136, Mixing::kCausal},
                           {2, 128, 128, 64, Mixing::kFull},
                           {2, 33, kWidth, 40, Mixing::kCausal},
                           {2, 1100, 64, 24, Mixing::kCausal, SpatialKind::kToeplitz},
                           {1, 600, kWidth, 40, Mixing::kFull, SpatialKind::kToeplitz}};
const Sizes kCpuSizes[] = {{3, 40, kWidth, 48, Mixing::kCausal},
                           {2, 300, 33, 65, Mixing::kCausal},
                           {3, 300, 17, 9, Mixing::kFull},
                           {1, 128, 64, 72, Mixing::kCausal},
                           {2, 300, 33, 65, Mixing::kCausal, SpatialKind::kToeplitz},
                           {3, 40, 17, 9, Mixing::kCausal, SpatialKind::kToeplitz},
                           {2, 257, kWidth, 48, Mixing::kFull, SpatialKind::kToeplitz}};

/// A block's parameters in GmlpBlock's order: shape, centre, scale. W of a scale at which the product matters
/// beside b.
struct Drawn {
  std::vector<std::int64_t> shape;
  double centre;
  double scale;
};
std::vector<Drawn> drawn_of(const Sizes& s) {
  const std::vector<std::int64_t> spatial = s.spatial == SpatialKind::kToeplitz
                                                ? std::vector<std::int64_t>{2 * s.positions - 1}
                                                : std::vector<std::int64_t>{s.positions, s.positions};
  return {{{s.width}, 1, 0.1},    {{s.width}, 0, 0.1},     {{2 * s.half, s.width}, 0, 0.2},
          {{2 * s.half}, 0, 0.1}, {{s.half}, 1, 0.1},      {{s.half}, 0, 0.1},
          {spatial, 0, 0.1},      {{s.positions}, 1, 0.1}, {{s.width, s.half}, 0, 0.15},
          {{s.width}, 0, 0.1}};
}

GmlpBlock make_block(BlockLeaves& leaves, const Sizes& sizes, Recompute recompute) {
  std::vector<at::Tensor> p;
  for (const Drawn& drawn : drawn_of(sizes)) p.push_back(leaves.leaf(drawn.shape, drawn.centre, drawn.scale));
  GmlpBlock block = {p[0], p[1], p[2], p[3],         p[4], p[5],     p[6],
                     p[7], p[8], p[9], sizes.mixing, 1e-5, recompute};
  block.variant.spatial = sizes.spatial;
  return block;
}

/// Two blocks and a norm; x in the residual stream's type.
BlockResults run(const Sizes& sizes, BlockLeaves leaves, Recompute recompute = Recompute::kNone,
                 bool leaves_matrices = false) {
  const at::Tensor drawn = leaves.rounded({sizes.batch, sizes.positions, sizes.width}, 0, 1);
  const at::Tensor x = drawn.to(residual_type(drawn.scalar_type())).set_requires_grad(true);
  GmlpBlock first = make_block(leaves, sizes, recompute);
  GmlpBlock second = make_block(leaves, sizes, recompute);
  first.leaves_matrices = second.leaves_matrices = leaves_matrices;
  const at::Tensor weight = leaves.leaf({sizes.width}, 1, 0.1);
  const at::Tensor bias = leaves.leaf({sizes.width}, 0, 0.1);
  if (leaves.path() == Path::kOracle)
    return leaves.backward(
        layer_norm(gmlp_block(gmlp_block(x, first), second), weight, bias, 1e-5).flatten(0, 1), x);
  EXPECT_TRUE(has_fused_block(x, first));
  return leaves.backward(
      residual_norm(fused_block(fused_block({x, {}, {}}, first), second), weight, bias, 1e-5).y_Td, x);
}

std::vector<Sizes> sizes_on(const at::Device& device) {
  return device.is_cpu() ? std::vector<Sizes>(std::begin(kCpuSizes), std::end(kCpuSizes))
                         : std::vector<Sizes>(std::begin(kGpuSizes), std::end(kGpuSizes));
}
std::vector<at::ScalarType> types_on(const at::Device& device) {
  if (device.is_cpu()) return {at::kFloat};
  return {at::kFloat, at::kBFloat16};
}

/// The matrices' gradients of one block, of leaves that were forgotten or zeroed.
std::vector<at::Tensor> matrix_gradients(const Sizes& sizes, const at::Device& device, Before before) {
  BlockLeaves leaves(types_on(device).back(), device, Path::kFused);
  GmlpBlock block = make_block(leaves, sizes, Recompute::kNone);
  std::vector<at::Tensor> sums;
  for (at::Tensor* const weight : {&block.expand_weight, &block.spatial_weight, &block.contract_weight}) {
    const at::Tensor sum = at::zeros(weight->sizes(), block.norm_weight.options().dtype(at::kFloat));
    *weight = make_rounded_leaf(weight->detach(), sum);
    sums.push_back(sum);
    if (before == Before::kSum) continue;
    sum.fill_(std::numeric_limits<float>::quiet_NaN());
    forget_gradient(*weight);
  }
  if (before == Before::kNothing && sizes.mixing == Mixing::kCausal && sums[1].dim() == 2)
    sums[1].masked_fill_(at::ones_like(sums[1]).triu(1).to(at::kBool), 0.0);  // as it always is there
  const at::Tensor x = leaves.rounded({sizes.batch, sizes.positions, sizes.width}, 0, 1).to(at::kFloat);
  const at::Tensor weight = leaves.leaf({sizes.width}, 1, 0.1);
  const at::Tensor bias = leaves.leaf({sizes.width}, 0, 0.1);
  for (int backward = 0; backward < 2; ++backward) {  // the second adds to the first
    const at::Tensor input = x.detach().clone().set_requires_grad(true);
    (void)leaves.backward(residual_norm(fused_block({input, {}, {}}, block), weight, bias, 1e-5).y_Td, input);
  }
  return sums;
}

}  // namespace

void FusedBlockTest::SetUp() {
  enter(GetParam());
  if (GetParam().is_cpu() && !has_fused_passes(at::zeros({1}), at::kFloat, {1}))
    GTEST_SKIP() << "no passes for this processor";
}

TEST_P(FusedBlockTest, IsNearFloat64) {
  for (const Sizes& sizes : sizes_on(GetParam())) {
    const BlockResults exact = run(sizes, {at::kDouble, at::kCPU, Path::kOracle});
    for (const Path path : {Path::kFused, Path::kOracle}) {
      for (const at::ScalarType dtype : types_on(GetParam())) {
        const double bound = dtype == at::kFloat ? 2e-5 : 0.05;
        const BlockResults got = run(sizes, {dtype, GetParam(), path});
        EXPECT_EQ(got.y.scalar_type(), dtype);
        expect_near(std::string(path == Path::kFused ? "fused " : "ATen ") + c10::toString(dtype) + ", " +
                        std::to_string(sizes.positions) + " positions",
                    got, exact, bound);
      }
    }
  }
}

TEST_P(FusedBlockTest, RecomputeChangesNoBit) {
  for (const at::ScalarType dtype : types_on(GetParam())) {
    for (const Sizes& sizes : sizes_on(GetParam())) {
      const BlockResults kept = run(sizes, {dtype, GetParam(), Path::kFused});
      for (const Recompute recompute : {Recompute::kNone, Recompute::kGate, Recompute::kBlock})
        expect_same_bits(run(sizes, {dtype, GetParam(), Path::kFused}, recompute), kept);
    }
  }
}

TEST_P(FusedBlockTest, LeavingMatricesChangesNoBit) {
  for (const Sizes& sizes : sizes_on(GetParam())) {
    for (const Recompute recompute : {Recompute::kNone, Recompute::kBlock}) {
      const BlockLeaves leaves(types_on(GetParam()).back(), GetParam(), Path::kFused);
      expect_same_bits(run(sizes, leaves, recompute, /*leaves_matrices=*/true),
                       run(sizes, leaves, recompute));
    }
  }
}

TEST_P(FusedBlockTest, ForgottenGradientsHaveTheBitsOfZeroedOnes) {
  for (const Sizes& sizes : sizes_on(GetParam())) {
    const std::vector<at::Tensor> forgotten = matrix_gradients(sizes, GetParam(), Before::kNothing);
    const std::vector<at::Tensor> zeroed = matrix_gradients(sizes, GetParam(), Before::kSum);
    for (std::size_t i = 0; i < zeroed.size(); ++i)
      EXPECT_TRUE(same_bits(forgotten[i], zeroed[i])) << "matrix " << i;
  }
}

}  // namespace sluice::tests
