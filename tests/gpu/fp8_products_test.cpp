#include "trainer/kernels/fp8_products.h"

#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

#include "tests/support/cross_entropy_cases.h"
#include "tests/support/kernel_tensors.h"

// fp8 products against products of what ATen's conversions on the CPU make of the operands, in float64.
namespace sluice::kernels {
namespace {

using tests::gpu;
using tests::normal;
using tests::relative_error;
using tests::same_bits;

struct Shape {
  std::int64_t rows, inputs, outputs;
};
const std::vector<Shape> kShapes = {{16, 32, 48}, {37, 512, 3072}, {1000, 1536, 512}, {515, 80, 144}};

/// x as fp8 holds it, by the largest power of two that keeps it in range.
at::Tensor rounded(const at::Tensor& x, at::ScalarType format) {
  const at::Tensor value = x.cpu().to(at::kDouble);
  const double most = format == at::kFloat8_e4m3fn ? 448 : 57344;
  const double scale = std::exp2(std::floor(std::log2(most / value.abs().max().item<double>())));
  return value.mul(scale).to(at::kFloat).to(format).to(at::kDouble).div(scale);
}

class Fp8ProductsTest : public tests::KernelsTest {
 protected:
  void SetUp() override {
    tests::KernelsTest::SetUp();
    if (!IsSkipped() && !has_fp8_products(gpu())) GTEST_SKIP() << "the GPU has no fp8 products";
  }
  static at::Tensor drawn(std::int64_t rows, std::int64_t columns, std::uint64_t seed, double scale) {
    return normal({rows, columns}, seed, at::kDouble).mul(scale).to(gpu(), at::kBFloat16);
  }
};

/// The result's own rounding, and in forward what the tensor cores' sums lose.
TEST_F(Fp8ProductsTest, AreProductsOfRoundedOperands) {
  constexpr double kBound = 1.0 / 150;
  for (const Shape& s : kShapes)
    for (const double scale : {1.0, 1e-9, 1e4}) {
      const at::Tensor x = drawn(s.rows, s.inputs, 1, scale);
      const at::Tensor dy = drawn(s.rows, s.outputs, 2, scale * 1e-3);
      const at::Tensor w = drawn(s.outputs, s.inputs, 3, 0.02);
      const at::Tensor bias = drawn(1, s.outputs, 4, scale)[0].contiguous();
      const at::Tensor exact_w = rounded(w, at::kFloat8_e4m3fn);
      const at::Tensor y = at::matmul(rounded(x, at::kFloat8_e4m3fn), exact_w.t());
      const at::Tensor dx = at::matmul(rounded(dy, at::kFloat8_e5m2), exact_w);
      const at::Tensor got = fp8_linear(x, w, {});
      const double errors[] = {relative_error(got, y, 0),
                               relative_error(fp8_linear(x, w, bias), y.add(bias.cpu().to(at::kDouble)), 0),
                               relative_error(fp8_linear_input_gradient(dy, w), dx, 0)};
      std::printf("%d x %d x %d: %.1e, with bias %.1e, gradient %.1e\n", static_cast<int>(s.rows),
                  static_cast<int>(s.inputs), static_cast<int>(s.outputs), errors[0], errors[1], errors[2]);
      for (const double error : errors) EXPECT_LE(error, kBound);
      EXPECT_TRUE(same_bits(got, fp8_linear(x, w, {})));
      EXPECT_TRUE(same_bits(fp8_linear_input_gradient(dy, w), fp8_linear_input_gradient(dy, w)));
    }
}

TEST_F(Fp8ProductsTest, ZerosAreZerosAndWhatIsNotFiniteIsNaN) {
  const at::Tensor x = drawn(16, 64, 1, 1), w = drawn(32, 64, 2, 1);
  EXPECT_EQ(fp8_linear(at::zeros_like(x), w, {}).abs().max().item<double>(), 0);
  for (const double value : {std::numeric_limits<double>::infinity(), std::nan("")}) {
    const at::Tensor bad = x.clone();
    bad[3][5] = value;
    EXPECT_TRUE(fp8_linear(bad, w, {}).isnan().all().item<bool>());
    EXPECT_TRUE(fp8_linear(w, bad, {}).isnan().all().item<bool>());
    EXPECT_TRUE(fp8_linear_input_gradient(bad, drawn(64, 16, 3, 1)).isnan().all().item<bool>());
  }
}

TEST_F(Fp8ProductsTest, RefuseWhatTheyCannotRead) {
  const at::Tensor x = drawn(16, 64, 1, 1), w = drawn(32, 64, 2, 1);
  EXPECT_THROW((void)fp8_linear(x.to(at::kFloat), w, {}), c10::Error);
  EXPECT_THROW((void)fp8_linear(x.narrow(1, 0, 32), w.narrow(1, 0, 32), {}), c10::Error) << "rows apart";
  EXPECT_THROW((void)fp8_linear(drawn(16, 24, 1, 1), drawn(32, 24, 2, 1), {}), c10::Error) << "24 terms";
  EXPECT_THROW((void)fp8_linear(x, drawn(24, 64, 2, 1), {}), c10::Error) << "24 outputs";
  EXPECT_THROW((void)fp8_linear_input_gradient(x, w), c10::Error) << "64 outputs and 32";
  EXPECT_THROW((void)fp8_linear(x.cpu(), w, {}), c10::Error);
}

}  // namespace
}  // namespace sluice::kernels
