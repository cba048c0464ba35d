#include "trainer/kernels/spatial.h"

#include <ATen/ops/gelu.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/cross_entropy_cases.h"
#include "tests/support/kernel_tensors.h"
#include "trainer/kernels/device_spatial.h"

// The spatial gating unit's products on a GPU, forward and backward, against ATen in float64 on the CPU.
namespace sluice::kernels {
namespace {

using tests::gpu;
using tests::normal;
using tests::relative_error;
using tests::same_bits;

struct Case {
  std::int64_t batch;
  std::int64_t positions;  ///< of the call
  std::int64_t square;     ///< of W
  std::int64_t width;
  Mixing mixing;
};

std::string name_of(const Case& c, at::ScalarType type) {
  return std::string(c10::toString(type)) + " " + std::to_string(c.batch) + "x" +
         std::to_string(c.positions) + "x" + std::to_string(c.width) + " of " + std::to_string(c.square) +
         (c.mixing == Mixing::kCausal ? " causal" : " full");
}

/// Sizes around tiles of 64, 128 and 256, odd ones, and calls shorter than W.
const Case kCases[] = {{1, 8, 8, 8, Mixing::kCausal},        {3, 37, 40, 24, Mixing::kCausal},
                       {2, 128, 128, 128, Mixing::kCausal},  {2, 136, 136, 264, Mixing::kCausal},
                       {3, 200, 512, 72, Mixing::kCausal},   {5, 200, 200, 72, Mixing::kFull},
                       {8, 512, 512, 192, Mixing::kCausal},  {2, 1288, 1288, 136, Mixing::kCausal},
                       {1, 2304, 2304, 64, Mixing::kCausal}, {2, 1160, 1160, 320, Mixing::kFull},
                       {40, 128, 128, 64, Mixing::kCausal}};

at::Tensor on_gpu(const at::Tensor& value, at::ScalarType type) { return value.to(type).to(gpu()); }
at::Tensor exact(const at::Tensor& tensor) { return tensor.cpu().to(at::kDouble); }

/// All operands of a case, rounded to `type`, on the GPU. W's upper triangle is NaN if causal: who reads it
/// is found out.
struct Operands {
  Operands(const Case& c, at::ScalarType type)
      : gate(on_gpu(normal({c.batch, c.positions, c.width}, 1), type)),
        expanded(on_gpu(normal({c.batch, c.positions, 2 * c.width}, 2).mul(2), type)),
        bias(on_gpu(normal({c.square}, 3), type)),
        dmixed(on_gpu(normal({c.batch, c.positions, c.width}, 4), type)) {
    at::Tensor drawn = normal({c.square, c.square}, 5).mul(0.2);
    seen = (c.mixing == Mixing::kCausal ? drawn.tril() : drawn).to(type).to(at::kDouble);
    seen = seen.narrow(0, 0, c.positions).narrow(1, 0, c.positions);
    if (c.mixing == Mixing::kCausal)
      drawn.masked_fill_(at::ones_like(drawn).triu(1).to(at::kBool),
                         std::numeric_limits<double>::quiet_NaN());
    weight = on_gpu(drawn, type);
    bypass = expanded.narrow(2, 0, c.width);
  }
  at::Tensor gate, expanded, bias, dmixed, weight, bypass;
  at::Tensor seen;  ///< float64 on the CPU, zero where nothing may be read
};

class SpatialTest : public tests::KernelsTest {};

TEST_F(SpatialTest, IsNearFloat64) {
  for (const auto& [type, bound] : {std::pair{at::kFloat, 1e-5}, std::pair{at::kBFloat16, 8e-3}}) {
    for (const Case& c : kCases) {
      const Operands o(c, type);
      const SpatialGate got = spatial_gate(o.gate, o.bypass, o.weight, o.bias, c.mixing, Keep::kMixed);
      const at::Tensor bias = exact(o.bias).narrow(0, 0, c.positions).unsqueeze(1);
      const at::Tensor mixed = at::matmul(o.seen, exact(o.gate)).add(bias);
      const at::Tensor dgate = spatial_input_gradient(o.dmixed, o.weight, got.diagonal, c.mixing);
      const at::Tensor sum = at::ones({c.square, c.square}, o.gate.options().dtype(at::kFloat));
      add_spatial_weight_gradient({sum}, o.dmixed, o.gate, c.mixing);
      const at::Tensor full = at::matmul(exact(o.dmixed), exact(o.gate).transpose(1, 2)).sum(0);
      const at::Tensor dweight = c.mixing == Mixing::kCausal ? full.tril() : full;
      at::Tensor sum_want = at::ones({c.square, c.square}, at::kDouble);
      sum_want.narrow(0, 0, c.positions).narrow(1, 0, c.positions).add_(dweight);
      const double errors[] = {
          relative_error(got.mixed_BTh, mixed, 0),
          relative_error(got.gated_BTh, at::gelu(exact(o.bypass)).mul(mixed), 0),
          relative_error(dgate, at::matmul(o.seen.t(), exact(o.dmixed)), 0),
          relative_error(sum, sum_want, 0),
      };
      std::printf("%s: mixed %.1e, gated %.1e, input %.1e, weight %.1e\n", name_of(c, type).c_str(),
                  errors[0], errors[1], errors[2], errors[3]);
      for (int i = 0; i < 3; ++i) EXPECT_LE(errors[i], bound) << name_of(c, type) << " " << i;
      EXPECT_LE(errors[3], 1e-5) << name_of(c, type) << " weight";
    }
  }
}

TEST_F(SpatialTest, HasTheSameBitsEachTime) {
  for (const Case& c : kCases) {
    const Operands o(c, at::kBFloat16);
    const auto run = [&] {
      const SpatialGate out = spatial_gate(o.gate, o.bypass, o.weight, o.bias, c.mixing, Keep::kMixed);
      const at::Tensor sum = at::ones({c.square, c.square}, o.gate.options().dtype(at::kFloat));
      add_spatial_weight_gradient({sum}, o.dmixed, o.gate, c.mixing);
      return std::vector<at::Tensor>{out.gated_BTh, out.mixed_BTh, sum,
                                     spatial_input_gradient(o.dmixed, o.weight, out.diagonal, c.mixing)};
    };
    const std::vector<at::Tensor> first = run();
    const std::vector<at::Tensor> second = run();
    for (std::size_t i = 0; i < first.size(); ++i)
      EXPECT_TRUE(same_bits(first[i], second[i])) << name_of(c, at::kBFloat16) << " " << i;
    const SpatialGate alone = spatial_gate(o.gate, o.bypass, o.weight, o.bias, c.mixing, Keep::kNothing);
    EXPECT_TRUE(same_bits(alone.gated_BTh, first[0]));
  }
}

/// NaN where the gradient is, and zeros above the diagonal.
TEST_F(SpatialTest, WritesOverNothingAsItAddsToZero) {
  for (const at::ScalarType type : {at::kBFloat16, at::kFloat}) {
    for (const Case& c : kCases) {
      const Operands o(c, type);
      const at::Tensor zero = at::zeros({c.square, c.square}, o.gate.options().dtype(at::kFloat));
      at::Tensor nothing = zero.clone().fill_(std::numeric_limits<float>::quiet_NaN());
      if (c.mixing == Mixing::kCausal)
        nothing.masked_fill_(at::ones_like(nothing).triu(1).to(at::kBool), 0.0);
      add_spatial_weight_gradient({zero}, o.dmixed, o.gate, c.mixing);
      add_spatial_weight_gradient({nothing, Before::kNothing}, o.dmixed, o.gate, c.mixing);
      EXPECT_TRUE(same_bits(nothing, zero)) << name_of(c, type);
    }
  }
}

/// Rows of W that the copy engine cannot address go through ATen.
TEST_F(SpatialTest, OddSizesGoToAten) {
  const Case c = {2, 33, 33, 20, Mixing::kCausal};
  const Operands o(c, at::kBFloat16);
  ASSERT_FALSE(has_spatial_kernel(o.gate, o.weight));
  const at::Tensor dgate = spatial_input_gradient(o.dmixed, o.weight, {}, c.mixing);
  EXPECT_LE(relative_error(dgate, at::matmul(o.seen.t(), exact(o.dmixed)), 0), 8e-3);
}

}  // namespace
}  // namespace sluice::kernels
