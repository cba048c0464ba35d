#include "trainer/kernels/products.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

// The products of a linear layer on the CPU, against sums written out in float64.
namespace sluice::kernels {
namespace {

/// [rows, columns] with the row stride given; values that bfloat16 holds exactly.
at::Tensor matrix(std::int64_t rows, std::int64_t columns, std::int64_t stride, std::uint64_t seed,
                  at::ScalarType dtype) {
  const auto options = at::TensorOptions().dtype(at::kDouble);
  return at::randn({rows, stride}, at::detail::createCPUGenerator(seed), options)
      .to(at::kBFloat16)
      .to(dtype)
      .narrow(1, 0, columns);
}

enum class Transposed { kNo, kYes };

/// a b (or a b^T, a^T b) one sum at a time.
at::Tensor written_out(const at::Tensor& a, Transposed of_a, const at::Tensor& b, Transposed of_b) {
  const at::Tensor left = (of_a == Transposed::kYes ? a.t() : a).to(at::kDouble).contiguous();
  const at::Tensor right = (of_b == Transposed::kYes ? b.t() : b).to(at::kDouble).contiguous();
  at::Tensor result = at::empty({left.size(0), right.size(1)}, left.options());
  const auto* const l = left.const_data_ptr<double>();
  const auto* const r = right.const_data_ptr<double>();
  auto* const out = result.mutable_data_ptr<double>();
  for (std::int64_t row = 0; row < left.size(0); ++row) {
    for (std::int64_t column = 0; column < right.size(1); ++column) {
      double sum = 0;
      for (std::int64_t k = 0; k < left.size(1); ++k)
        sum += l[row * left.size(1) + k] * r[k * right.size(1) + column];
      out[row * right.size(1) + column] = sum;
    }
  }
  return result;
}

double error(const at::Tensor& got, const at::Tensor& exact) {
  return got.to(at::kDouble).sub(exact).norm().item().toDouble() / exact.norm().item().toDouble();
}

struct Case {
  at::ScalarType dtype;
  double bound;       ///< of a result in `dtype`
  double wide_bound;  ///< of a sum in float32 or wider
};
class LinearProducts : public ::testing::TestWithParam<Case> {};

constexpr std::int64_t kT = 37, kI = 24, kO = 19, kBeyond = 5;

struct Sizes {
  std::int64_t rows, inputs, outputs, beyond;
};
/// The large ones are oneDNN's where host::prefers_onednn.
constexpr Sizes kSizes[] = {
    {kT, kI, kO, 0}, {kT, kI, kO, kBeyond}, {161, 130, 121, 0}, {161, 130, 121, kBeyond}};

TEST_P(LinearProducts, AreThoseOfTheDefinition) {
  const auto [dtype, bound, wide_bound] = GetParam();
  const auto no = Transposed::kNo, yes = Transposed::kYes;
  for (const auto [rows, inputs, outputs, beyond] : kSizes) {
    const at::Tensor x = matrix(rows, inputs, inputs + beyond, 1, dtype);
    const at::Tensor w = matrix(outputs, inputs, inputs + beyond, 2, dtype);
    const at::Tensor dy = matrix(rows, outputs, outputs + beyond, 3, dtype);
    const at::Tensor bias = matrix(1, outputs, outputs, 4, dtype).squeeze(0);
    const at::Tensor y = written_out(x, no, w, yes);
    const at::Tensor dx = written_out(dy, no, w, no);
    EXPECT_LE(error(linear(x, w, {}), y), bound);
    EXPECT_LE(error(linear(x, w, bias), y.add(bias.to(at::kDouble))), bound);
    EXPECT_LE(error(linear_input_gradient(dy, w), dx), bound);

    const at::ScalarType wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
    const at::Tensor room = at::empty({rows, outputs + beyond}, x.options().dtype(wide)).fill_(7);
    linear_into(room.narrow(1, 0, outputs), x, w, {});
    EXPECT_LE(error(room.narrow(1, 0, outputs), y), wide_bound);
    if (beyond > 0) {
      EXPECT_TRUE(room.narrow(1, outputs, beyond).eq(7).all().item<bool>());
    }
    const at::Tensor into = at::empty({rows, inputs}, x.options().dtype(wide));
    linear_input_gradient_into(into, dy, w);
    EXPECT_LE(error(into, dx), wide_bound);

    const at::Tensor before = matrix(outputs, inputs, inputs + beyond, 5, wide);
    const at::Tensor sum = before.clone();
    add_linear_weight_gradient({sum}, dy, x);
    EXPECT_LE(error(sum, before.to(at::kDouble).add(written_out(dy, yes, x, no))), wide_bound);
    const at::Tensor over = at::full_like(before, std::numeric_limits<double>::quiet_NaN());
    add_linear_weight_gradient({over, Before::kNothing}, dy, x);
    EXPECT_LE(error(over, written_out(dy, yes, x, no)), wide_bound);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, LinearProducts,
                         ::testing::Values(Case{at::kDouble, 1e-14, 1e-14}, Case{at::kFloat, 1e-6, 1e-6},
                                           Case{at::kBFloat16, 1.0 / 256, 1e-6}),
                         [](const auto& one) { return std::string(c10::toString(one.param.dtype)); });

TEST(LinearProductsChecks, RefuseWhatTheyCannotMultiply) {
  const at::Tensor x = matrix(kT, kI, kI, 1, at::kFloat);
  const at::Tensor w = matrix(kO, kI, kI, 2, at::kFloat);
  const at::Tensor bias = matrix(1, kO, kO, 3, at::kFloat).squeeze(0);
  EXPECT_THROW((void)linear(x, w.t(), {}), c10::Error);  // sizes do not agree
  EXPECT_THROW((void)linear_input_gradient(x, w), c10::Error);
  EXPECT_THROW((void)linear(x.to(at::kDouble), w, {}), c10::Error);  // mixed types
  EXPECT_THROW((void)linear(x, w, bias.narrow(0, 0, kO - 1)), c10::Error);
  EXPECT_THROW((void)linear(x.t().contiguous().t(), w, {}), c10::Error);  // columns far apart
  const at::Tensor dy = matrix(kT, kO, kO, 4, at::kBFloat16);
  const at::Tensor sum = matrix(kO, kI, kI, 5, at::kBFloat16);
  EXPECT_THROW(add_linear_weight_gradient({sum}, dy, x.to(at::kBFloat16)), c10::Error);  // a sum in bfloat16
  EXPECT_THROW(linear_into(at::empty({kT, kO}), dy, sum.t().contiguous(), {}), c10::Error);
}

}  // namespace
}  // namespace sluice::kernels
