#include "trainer/kernels/mlp_passes.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <vector>

#include "tests/support/cross_entropy_cases.h"
#include "tests/support/kernel_tensors.h"

// The passes of a Transformer's MLP and attention against ATen in float64 on the CPU.
namespace sluice::kernels {
namespace {

using tests::gpu;
using tests::normal;
using tests::relative_error;
using tests::same_bits;

/// Rows that fill no block, enough rows that every block goes round its loop, every size of a block.
const std::vector<std::vector<std::int64_t>> kShapes = {{1, 24},     {37, 72},     {515, 768}, {37, 1560},
                                                        {515, 3072}, {9001, 2304}, {37, 4104}, {137, 8184}};

at::Tensor exact(const at::Tensor& value) { return value.detach().cpu().to(at::kDouble).contiguous(); }

/// Of results, half a unit in their last place; of sums that bfloat16 passes add up, the fast GELU's share.
double bound_of(at::ScalarType compute, at::ScalarType result) {
  if (result == at::kBFloat16) return 1.0 / 250;
  return compute == at::kFloat ? 1e-5 : 1e-4;
}

class MlpPassesTest : public tests::KernelsTest {
 protected:
  static at::Tensor drawn(const std::vector<std::int64_t>& shape, std::uint64_t seed, at::ScalarType type) {
    return normal(shape, seed, at::kDouble).mul(2).to(at::kBFloat16).to(gpu(), type);
  }
  static at::Tensor started(std::int64_t size) { return drawn({size}, 9, at::kFloat); }
  static void near(const char* what, const at::Tensor& got, const at::Tensor& want, at::ScalarType compute) {
    EXPECT_LE(relative_error(got, want, 1e-3), bound_of(compute, got.scalar_type()))
        << what << " of " << got.sizes() << ", " << compute;
  }
};

TEST_F(MlpPassesTest, GeluAndItsGradient) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
    for (const auto& shape : kShapes)
      for (const GeluForm form : {GeluForm::kExact, GeluForm::kTanh}) {
        const at::Tensor input = drawn(shape, 1, type);
        const at::Tensor dy = drawn(shape, 2, type);
        const at::Tensor leaf = exact(input).requires_grad_(true);
        const at::Tensor y = form == GeluForm::kTanh ? at::gelu(leaf, "tanh") : at::gelu(leaf);
        y.backward(exact(dy));
        near("gelu", gelu_forward(input, form), y, type);
        const at::Tensor sum = started(shape[1]);
        const at::Tensor dinput = gelu_backward(dy, input, form, sum);
        near("its gradient", dinput, leaf.grad(), type);
        near("the gradient's sum", sum.sub(started(shape[1])), leaf.grad().sum(0), type);
        const at::Tensor again = started(shape[1]);
        EXPECT_TRUE(same_bits(gelu_backward(dy, input, form, again), dinput));
        EXPECT_TRUE(same_bits(again, sum));
      }
}

TEST_F(MlpPassesTest, GeluAtExtremes) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
    for (const GeluForm form : {GeluForm::kExact, GeluForm::kTanh}) {
      const auto line = at::linspace(-40, 40, 8192 - 8, at::TensorOptions().dtype(at::kDouble));
      const auto ends = at::tensor({-1e4, 1e4, -3e38, 3e38, 0.0, -0.0, 1e-30, -1e-30},
                                   at::TensorOptions().dtype(at::kDouble));
      const at::Tensor input = at::cat({line, ends}).to(type).to(gpu()).view({32, 256});
      const at::Tensor x = exact(input);
      const at::Tensor leaf = x.clamp(-1e10, 1e10).requires_grad_(true);  // the cube of 3e38 is none
      const at::Tensor y = form == GeluForm::kTanh ? at::gelu(leaf, "tanh") : at::gelu(leaf);
      y.sum().backward();
      const auto error = [](const at::Tensor& got, const at::Tensor& want) {
        return exact(got).sub(want.detach()).abs().div(want.detach().abs().clamp_min(1)).max().item<double>();
      };
      const double bound = type == at::kFloat ? 2e-6 : 1.0 / 250;
      const at::Tensor value = gelu_forward(input, form);
      const at::Tensor far = x.abs().gt(1e10);
      EXPECT_TRUE(exact(value).eq(x.clamp_min(0)).logical_or(far.logical_not()).all().item<bool>());
      EXPECT_LE(error(value.masked_fill(far.to(gpu()), 0), y.masked_fill(far, 0)), bound);
      const at::Tensor slope = gelu_backward(at::ones_like(input), input, form, started(256));
      EXPECT_LE(error(slope, leaf.grad()), bound) << static_cast<int>(form) << " " << type;
    }
}

TEST_F(MlpPassesTest, JoinsColumns) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
    for (const auto& shape : kShapes) {
      const std::vector<std::int64_t> narrow = {shape[0], shape[1] / 3};
      const std::array<at::Tensor, 3> parts = {drawn(narrow, 1, type), drawn(narrow, 2, type),
                                               drawn(narrow, 3, type)};
      const at::Tensor sum = started(shape[1]);
      const at::Tensor joined = join_columns(parts, sum);
      const at::Tensor want = at::cat({parts[0], parts[1], parts[2]}, 1);
      EXPECT_TRUE(same_bits(joined, want)) << want.sizes();
      near("sum", sum.sub(started(shape[1])), exact(want).sum(0), type);
      const at::Tensor again = started(shape[1]);
      (void)join_columns(parts, again);
      EXPECT_TRUE(same_bits(again, sum));
    }
}

TEST_F(MlpPassesTest, RefuseWhatTheyCannotRead) {
  const auto options = at::TensorOptions(gpu()).dtype(at::kBFloat16);
  const at::Tensor good = at::zeros({4, 16}, options);
  const at::Tensor sum = at::zeros({16}, options.dtype(at::kFloat));
  const at::Tensor wide = at::zeros({4, 32}, options).narrow(1, 0, 16);
  EXPECT_NO_THROW((void)gelu_forward(good, GeluForm::kTanh));
  EXPECT_THROW((void)gelu_forward(wide, GeluForm::kTanh), c10::Error) << "rows apart";
  EXPECT_THROW((void)gelu_forward(good.cpu(), GeluForm::kTanh), c10::Error);
  EXPECT_THROW((void)gelu_forward(at::zeros({4, 12}, options), GeluForm::kExact), c10::Error);
  EXPECT_THROW((void)gelu_backward(good, good, GeluForm::kTanh, sum.to(at::kBFloat16)), c10::Error);
  EXPECT_THROW((void)gelu_backward(good.narrow(0, 0, 3), good, GeluForm::kTanh, sum), c10::Error);
  EXPECT_THROW((void)join_columns({good, good, wide}, at::zeros({48}, sum.options())), c10::Error);
  EXPECT_THROW((void)join_columns({good, good, good}, sum), c10::Error) << "a sum of one part";
}

}  // namespace
}  // namespace sluice::kernels
