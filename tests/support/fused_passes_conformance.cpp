#include "tests/support/fused_passes_conformance.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "tests/support/cross_entropy_cases.h"
#include "tests/support/kernel_tensors.h"
#include "trainer/kernels/fused_passes.h"

namespace sluice::tests {
namespace {

using namespace kernels;

constexpr double kEps = 1e-5;

const std::vector<FusedTypes> kGpuTypes = {
    {at::kFloat, at::kFloat}, {at::kFloat, at::kBFloat16}, {at::kBFloat16, at::kBFloat16}};
const std::vector<FusedTypes> kCpuTypes = {{at::kFloat, at::kFloat}};

/// Every width, rows that fill no block; then enough rows that every block goes round its loop.
const std::vector<FusedShape> kGpuShapes = {
    {37, 8, 37},        {515, 24, 103},     {515, 64, 5},     {3, 512, 1},      {515, 512, 103},
    {1, 768, 1},        {515, 768, 5},      {37, 1024, 37},   {37, 1280, 37},   {515, 1536, 103},
    {37, 1544, 1},      {37, 2048, 37},     {37, 4096, 37},   {515, 4096, 5},   {1, 8, 1},
    {3, 24, 3},         {37, 4104, 37},     {137, 8192, 137}, {9001, 24, 9001}, {9002, 512, 4501},
    {4001, 1024, 4001}, {4003, 1536, 4003}, {2401, 2056, 7}};

/// Rows and columns that fill no vector and no chunk, and such that do. Of fewer than these columns some rows
/// deviate so little that their norm multiplies rounding by hundreds, ATen's as well.
const std::vector<FusedShape> kCpuShapes = {
    {1, 8, 1},        {3, 7, 1},        {37, 8, 37},        {5, 13, 5},     {515, 24, 103}, {130, 33, 65},
    {515, 257, 5},    {64, 256, 32},    {66, 256, 33},      {3, 512, 1},    {67, 1000, 67}, {2050, 96, 41},
    {1030, 513, 103}, {9002, 24, 4501}, {12001, 11, 12001}, {601, 2056, 1}, {9, 9001, 3}};

/// Columns of a wider matrix whose other columns hold 7.
at::Tensor half_of(const at::Tensor& value, std::int64_t before, std::int64_t after) {
  const at::Tensor wide = at::full({value.size(0), before + value.size(1) + after}, 7.0, value.options());
  wide.narrow(1, before, value.size(1)).copy_(value);
  return wide.narrow(1, before, value.size(1));
}

at::Tensor wide_of(const at::Tensor& half, std::int64_t before, std::int64_t after) {
  return half.as_strided({half.size(0), before + half.size(1) + after}, {half.stride(0), 1},
                         half.storage_offset() - before);
}

at::Tensor exact_leaf(const at::Tensor& value) {
  return value.detach().cpu().to(at::kDouble).contiguous().requires_grad_(true);
}

void expect_same_bits(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b,
                      const std::string& where) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(same_bits(a[i], b[i])) << "tensor " << i << where;
}

}  // namespace

void FusedPassesTest::SetUp() {
  enter(GetParam());
  if (GetParam().is_cpu() && !has_fused_passes(at::zeros({1}), at::kFloat, {1}))
    GTEST_SKIP() << "no passes for this processor";
}

void FusedPassesTest::TearDown() {
  for (const auto& [name, error] : worst_)
    std::printf("  largest relative error, %s: %.2e\n", name.c_str(), error);
}

const std::vector<FusedTypes>& FusedPassesTest::types() const {
  return GetParam().is_cpu() ? kCpuTypes : kGpuTypes;
}

at::Tensor FusedPassesTest::drawn(at::IntArrayRef shape, std::uint64_t seed, at::ScalarType type,
                                  double scale, double centre) const {
  return normal(shape, seed, at::kDouble).mul(scale).add(centre).to(at::kBFloat16).to(GetParam(), type);
}

at::Tensor FusedPassesTest::started(std::int64_t size, std::uint64_t seed) const {
  return drawn({size}, seed, at::kFloat);
}

void FusedPassesTest::near(const std::string& name, const at::Tensor& got, const at::Tensor& want,
                           at::ScalarType compute) {
  const double bound = got.scalar_type() == at::kBFloat16 ? 1.0 / 250 : (compute == at::kFloat ? 1e-5 : 1e-4);
  ASSERT_EQ(got.sizes(), want.sizes()) << name << where_;
  const double error = relative_error(got, want, 1e-3);
  EXPECT_LE(error, bound) << name << where_;
  double& worst = worst_[name + " " + c10::toString(got.scalar_type()) + " of " + c10::toString(compute)];
  worst = std::max(worst, error);
}

void FusedPassesTest::near_sum(const std::string& name, const at::Tensor& got, std::uint64_t seed,
                               const at::Tensor& want, at::ScalarType compute) {
  near(name, got.sub(started(got.size(0), seed)), want, compute);
}

void FusedPassesTest::for_cases(const std::function<void(const FusedShape&, const FusedTypes&)>& run) {
  for (const FusedTypes& types : types())
    for (const FusedShape& shape : GetParam().is_cpu() ? kCpuShapes : kGpuShapes) {
      where_ = c10::str(" at [", shape.rows, ", ", shape.width, "], residual ", types.residual, ", compute ",
                        types.compute);
      run(shape, types);
      if (::testing::Test::HasFatalFailure()) return;
    }
}

TEST_P(FusedPassesTest, ResidualNormForward) {
  for_cases([&](const FusedShape& s, const FusedTypes& t) {
    const at::Tensor x = drawn({s.rows, s.width}, 1, t.residual, 3, 2);
    const at::Tensor branch = drawn({s.rows, s.width}, 2, t.compute);
    const at::Tensor branch_bias = drawn({s.width}, 3, t.compute);
    const at::Tensor weight = drawn({s.width}, 4, t.compute, 0.1, 1);
    const at::Tensor bias = drawn({s.width}, 5, t.compute);
    ASSERT_TRUE(has_fused_passes(x, t.compute, {s.width}));
    const auto run = [&](const at::Tensor& of, const at::Tensor& of_bias) {
      const ResidualNorm out = residual_norm_forward(x, of, of_bias, weight, bias, kEps);
      return std::vector<at::Tensor>{out.sum, out.y, out.statistics};
    };
    const auto check = [&](const std::vector<at::Tensor>& out) {
      const at::Tensor sum = exact_leaf(out[0]).detach();
      near("residual norm, y", out[1],
           at::layer_norm(sum, {s.width}, exact_leaf(weight), exact_leaf(bias), kEps), t.compute);
      const at::Tensor mean = sum.mean(1);
      const at::Tensor scale = sum.var(1, false).add(kEps).rsqrt();
      near("residual norm, statistics", out[2], at::stack({mean, scale}, 1), at::kFloat);
    };
    const auto with = run(branch, branch_bias);
    EXPECT_EQ(with[0].scalar_type(), t.residual);
    near("residual sum", with[0], exact_leaf(x).add(exact_leaf(branch)).add(exact_leaf(branch_bias)),
         t.compute);
    check(with);
    expect_same_bits(with, run(branch, branch_bias), where_);
    const auto without = run({}, {});
    EXPECT_EQ(without[0].const_data_ptr(), x.const_data_ptr());
    check(without);
  });
}

TEST_P(FusedPassesTest, ResidualNormBackward) {
  for_cases([&](const FusedShape& s, const FusedTypes& t) {
    const at::Tensor sum = drawn({s.rows, s.width}, 1, t.residual, 3, 2);
    const at::Tensor weight = drawn({s.width}, 4, t.compute, 0.1, 1);
    const at::Tensor bias = drawn({s.width}, 5, t.compute);
    const at::Tensor dy = drawn({s.rows, s.width}, 6, t.compute);
    const at::Tensor dsum = drawn({s.rows, s.width}, 7, t.residual);
    const at::Tensor statistics = residual_norm_forward(sum, {}, {}, weight, bias, kEps).statistics;
    const std::vector<at::Tensor> leaves = {exact_leaf(sum), exact_leaf(weight), exact_leaf(bias)};
    at::layer_norm(leaves[0], {s.width}, leaves[1], leaves[2], kEps).backward(exact_leaf(dy).detach());
    const auto run = [&](bool first) {  // the first block's stream has no branch, the last one's no dsum
      const ResidualNormSums sums = {started(s.width, 8), started(s.width, 9),
                                     first ? at::Tensor() : started(s.width, 10)};
      const ResidualGradient out =
          residual_norm_backward(dy, first ? dsum : at::Tensor(), sum, weight, statistics, sums);
      std::vector<at::Tensor> all = {out.x, sums.weight, sums.bias};
      EXPECT_EQ(out.branch.defined(), !first);
      if (!first) all.insert(all.end(), {out.branch, sums.branch_bias});
      return all;
    };
    const auto first = run(true);
    near("residual norm, dx", first[0], leaves[0].grad().add(exact_leaf(dsum)), t.compute);
    near_sum("residual norm, dweight", first[1], 8, leaves[1].grad(), t.compute);
    near_sum("residual norm, dbias", first[2], 9, leaves[2].grad(), t.compute);
    const auto last = run(false);
    near("residual norm, dx", last[0], leaves[0].grad(), t.compute);
    EXPECT_EQ(last[3].scalar_type(), t.compute);
    EXPECT_TRUE(same_bits(last[3], last[0].to(t.compute))) << where_;
    near_sum("residual norm, dbranch_bias", last[4], 10, leaves[0].grad().sum(0), t.compute);
    expect_same_bits(last, run(false), where_);
    // Both at once is the usual block.
    const ResidualNormSums sums = {started(s.width, 8), started(s.width, 9), started(s.width, 10)};
    const ResidualGradient both = residual_norm_backward(dy, dsum, sum, weight, statistics, sums);
    expect_same_bits({both.x, sums.weight, sums.bias}, first, where_);
    near_sum("residual norm, dbranch_bias", sums.branch_bias, 10,
             leaves[0].grad().add(exact_leaf(dsum)).sum(0), t.compute);
  });
}

TEST_P(FusedPassesTest, GeluNorm) {
  for_cases([&](const FusedShape& s, const FusedTypes& t) {
    if (t.residual != t.compute) return;
    const at::Tensor input = half_of(drawn({s.rows, s.width}, 1, t.compute, 2), s.width, 0);
    const at::Tensor weight = drawn({s.width}, 4, t.compute, 0.1, 1);
    const at::Tensor bias = drawn({s.width}, 5, t.compute);
    const at::Tensor dy = half_of(drawn({s.rows, s.width}, 6, t.compute), 0, 16);
    const std::vector<at::Tensor> leaves = {exact_leaf(input), exact_leaf(weight), exact_leaf(bias)};
    const at::Tensor value = at::gelu(leaves[0]);
    const at::Tensor y = at::layer_norm(value, {s.width}, leaves[1], leaves[2], kEps);
    y.backward(exact_leaf(dy).detach());
    const auto run = [&] {
      const GeluNorm out = gelu_norm_forward(input, weight, bias, kEps);
      const GeluNormSums sums = {started(s.width, 8), started(s.width, 9), started(s.width, 10)};
      const at::Tensor dinput = half_of(at::zeros({s.rows, s.width}, input.options()), s.width, 8);
      gelu_norm_backward(dy, input, weight, out.statistics, dinput, sums);
      return std::vector<at::Tensor>{out.y, out.statistics, dinput, sums.weight, sums.bias, sums.input_bias};
    };
    const auto got = run();
    EXPECT_TRUE(got[0].is_contiguous());
    near("gelu norm, y", got[0], y, t.compute);
    const at::Tensor scale = value.var(1, false).add(kEps).rsqrt();
    near("gelu norm, statistics", got[1], at::stack({value.mean(1), scale}, 1), t.compute);
    near("gelu norm, dinput", got[2], leaves[0].grad(), t.compute);
    near_sum("gelu norm, dweight", got[3], 8, leaves[1].grad(), t.compute);
    near_sum("gelu norm, dbias", got[4], 9, leaves[2].grad(), t.compute);
    near_sum("gelu norm, dinput_bias", got[5], 10, leaves[0].grad().sum(0), t.compute);
    const at::Tensor wide = wide_of(got[2], s.width, 8);
    EXPECT_TRUE(wide.narrow(1, 0, s.width).eq(7).all().item<bool>()) << "written beside the half" << where_;
    EXPECT_TRUE(wide.narrow(1, 2 * s.width, 8).eq(7).all().item<bool>())
        << "written beside the half" << where_;
    expect_same_bits(got, run(), where_);
    const GeluNorm into = {at::full_like(got[0], 7), at::full_like(got[1], 7)};
    const at::Tensor again = at::full_like(got[0], 7);
    gelu_norm_forward_into(into, again, input, weight, bias, kEps);
    expect_same_bits({got[0], got[0], got[1]}, {into.y, again, into.statistics}, where_);
  });
}

TEST_P(FusedPassesTest, Gate) {
  for_cases([&](const FusedShape& s, const FusedTypes& t) {
    if (t.residual != t.compute) return;
    const at::Tensor input = half_of(drawn({s.rows, s.width}, 1, t.compute, 2), 0, s.width);
    const at::Tensor mixed = half_of(drawn({s.rows, s.width}, 2, t.compute), 8, 8);
    const at::Tensor bias = drawn({s.positions}, 3, t.compute);
    const at::Tensor dz = half_of(drawn({s.rows, s.width}, 4, t.compute), 16, 0);
    for (const at::Tensor& used : {bias, at::Tensor()}) {
      const std::vector<at::Tensor> leaves = {exact_leaf(input), exact_leaf(mixed), exact_leaf(bias)};
      const std::int64_t batch = s.rows / s.positions;
      const at::Tensor shift = leaves[2].repeat({batch}).unsqueeze(1).mul(used.defined() ? 1.0 : 0.0);
      const at::Tensor z = at::gelu(leaves[0]).mul(leaves[1].add(shift));
      z.backward(exact_leaf(dz).detach());
      const auto run = [&] {
        const GateSums sums = {started(s.positions, 8), started(s.width, 9)};
        const at::Tensor dinput = half_of(at::zeros({s.rows, s.width}, input.options()), 0, s.width);
        const GateGradient of = gate_backward(dz, input, mixed, used, s.positions, dinput, sums);
        const at::Tensor forward = gate_forward(input, mixed, used, s.positions);
        EXPECT_TRUE(same_bits(of.z, forward)) << where_;
        return std::vector<at::Tensor>{forward, of.mixed, dinput, sums.position_bias, sums.input_bias};
      };
      const auto got = run();
      EXPECT_TRUE(got[0].is_contiguous() && got[1].is_contiguous());
      near("gate, z", got[0], z, t.compute);
      near("gate, dmixed", got[1], leaves[1].grad(), t.compute);
      near("gate, dinput", got[2], leaves[0].grad(), t.compute);
      near_sum("gate, dposition_bias", got[3], 8, leaves[1].grad().sum(1).view({batch, s.positions}).sum(0),
               t.compute);
      near_sum("gate, dinput_bias", got[4], 9, leaves[0].grad().sum(0), t.compute);
      EXPECT_TRUE(wide_of(got[2], 0, s.width).narrow(1, s.width, s.width).eq(7).all().item<bool>()) << where_;
      expect_same_bits(got, run(), where_);
    }
  });
}

TEST_P(FusedPassesTest, GeluAtExtremes) {
  for (const FusedTypes& both : types()) {
    const at::ScalarType type = both.compute;
    const at::Tensor line = at::linspace(-40, 40, 8192 - 8, at::TensorOptions().dtype(at::kDouble));
    const at::Tensor ends = at::tensor({-1e4, 1e4, -3e38, 3e38, 0.0, -0.0, 1e-30, -1e-30},
                                       at::TensorOptions().dtype(at::kDouble));
    const at::Tensor input = at::cat({line, ends}).to(type).to(GetParam()).view({32, 256});
    const at::Tensor one = at::ones_like(input);
    const at::Tensor leaf = exact_leaf(input);
    const at::Tensor value = at::gelu(leaf);
    value.sum().backward();
    const GateSums sums = {started(32, 1), started(256, 2)};
    const at::Tensor slope = at::zeros({32, 256}, input.options());
    const at::Tensor got = gate_backward(one, input, one, {}, 32, slope, sums).mixed;
    const auto error = [](const at::Tensor& a, const at::Tensor& want) {
      const at::Tensor e = want.detach();
      return a.cpu().to(at::kDouble).sub(e).abs().div(e.abs().clamp_min(1)).max().item<double>();
    };
    const double bound = type == at::kFloat ? 1e-6 : 1.0 / 250;
    std::printf("  gelu in [-40, 40] and beyond, %s: value %.2e, slope %.2e\n", c10::toString(type),
                error(got, value), error(slope, leaf.grad()));
    EXPECT_LE(error(got, value), bound);
    EXPECT_LE(error(slope, leaf.grad()), bound);
    EXPECT_TRUE(same_bits(gate_forward(input, one, {}, 32), got));
  }
}

/// A deviation of zero: what is left of such a row is rounding times 1 / sqrt(eps).
TEST_P(FusedPassesTest, NormOfEqualValues) {
  for (const FusedTypes& t : types())
    for (const std::int64_t width : {24, 512, 1536})
      for (const double value : {0.0, 3.0, 1e4}) {
        const at::Tensor x = at::full({5, width}, value, at::TensorOptions(GetParam()).dtype(t.residual));
        const at::Tensor weight = at::ones({width}, at::TensorOptions(GetParam()).dtype(t.compute));
        const ResidualNorm out =
            residual_norm_forward(x, {}, {}, weight, at::zeros({width}, weight.options()), kEps);
        EXPECT_LE(out.y.abs().max().item<double>(), value * 316 * 1e-6) << value << ", width " << width;
        if (t.residual != t.compute) continue;
        const GeluNorm gated = gelu_norm_forward(x, weight, at::zeros({width}, weight.options()), kEps);
        EXPECT_LE(gated.y.abs().max().item<double>(), value * 316 * 1e-6) << value << ", width " << width;
      }
}

}  // namespace sluice::tests
