#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/cross_entropy_cases.h"
#include "tests/support/kernel_tensors.h"
#include "trainer/kernels/gmlp_block.h"
#include "trainer/kernels/transformer_block.h"

// A Transformer's block and attention on a GPU, forward and backward, against float64 on the CPU.
namespace sluice::kernels {
namespace {

using tests::gpu;
using tests::normal;
using tests::relative_error;
using tests::same_bits;

constexpr std::int64_t kBatch = 2, kWidth = 64, kHidden = 96, kHeads = 4;

struct Variant {
  std::string name;
  NormKind norm = NormKind::kLayer;
  Activation activation = Activation::kGeluTanh;
  bool rotary = false;
  bool bias = true;
};
const std::vector<Variant>& variants() {
  static const std::vector<Variant> all = {
      {"gpt2", NormKind::kLayer, Activation::kGeluTanh, false, true},
      {"gpt2_no_bias", NormKind::kLayer, Activation::kGelu, false, false},
      {"llama", NormKind::kRms, Activation::kSwiGlu, true, false}};
  return all;
}

struct Results {
  at::Tensor y;
  std::vector<at::Tensor> gradients;  ///< of x, then of the parameters
};

/// A block over `positions` positions, of values that bfloat16 holds exactly; x in the residual stream's
/// type.
Results run(const Variant& variant, std::int64_t positions, at::ScalarType dtype, at::Device device,
            Recompute recompute = Recompute::kNone) {
  std::vector<at::Tensor> leaves;
  const auto leaf = [&](at::IntArrayRef shape, double centre, double scale, at::ScalarType type) {
    const at::Tensor drawn = normal(shape, 1 + leaves.size(), at::kDouble).mul(scale).add(centre);
    leaves.push_back(drawn.to(at::kBFloat16).to(device, type).set_requires_grad(true));
    return leaves.back();
  };
  const at::Tensor x = leaf({kBatch, positions, kWidth}, 0, 1, residual_type(dtype));
  const auto norm = [&] {
    Norm one{.kind = variant.norm, .weight = leaf({kWidth}, 1, 0.1, dtype), .bias = {}, .eps = 1e-5};
    if (variant.norm == NormKind::kRms) return one;
    one.bias = variant.bias ? leaf({kWidth}, 0, 0.1, dtype) : one.weight.detach().mul(0);
    return one;
  };
  const auto linear = [&](std::int64_t out, std::int64_t in) {
    const at::Tensor weight = leaf({out, in}, 0, 0.2, dtype);
    return Linear{weight, variant.bias ? leaf({out}, 0, 0.1, dtype) : at::Tensor()};
  };
  TransformerBlock block;
  block.attention_norm = norm();
  block.qkv = linear(3 * kWidth, kWidth);
  block.out = linear(kWidth, kWidth);
  block.mlp_norm = norm();
  block.expand = linear(variant.activation == Activation::kSwiGlu ? 2 * kHidden : kHidden, kWidth);
  block.contract = linear(kWidth, kHidden);
  block.heads = kHeads;
  if (variant.rotary)
    block.rotary = rotary_table(positions, kWidth / kHeads, 10000,
                                at::TensorOptions().device(device).dtype(residual_type(dtype)));
  block.activation = variant.activation;
  block.recompute = recompute;
  Results results;
  results.y = transformer_block(x, block);
  results.y.backward(normal(x.sizes(), 99, at::kDouble).to(device, results.y.scalar_type()));
  for (const at::Tensor& one : leaves) results.gradients.push_back(one.grad());
  results.y = results.y.detach();
  return results;
}

class TransformerKernelTest : public tests::KernelsTest {};

/// 40 positions, which are no whole tile, and 200, which are two of the flash kernel's.
TEST_F(TransformerKernelTest, IsNearFloat64) {
  for (const Variant& variant : variants()) {
    for (const std::int64_t positions : {40, 200}) {
      const Results exact = run(variant, positions, at::kDouble, at::kCPU);
      for (const auto& [dtype, bound] : {std::pair{at::kFloat, 2e-5}, std::pair{at::kBFloat16, 0.05}}) {
        const Results got = run(variant, positions, dtype, gpu());
        EXPECT_EQ(got.y.scalar_type(), at::kFloat);
        const double error = relative_error(got.y, exact.y, 0);
        EXPECT_LE(error, bound);
        std::printf("%s %s, %d positions: result %.1e, gradients", variant.name.c_str(), c10::toString(dtype),
                    static_cast<int>(positions), error);
        for (std::size_t i = 0; i < exact.gradients.size(); ++i) {
          const double of_gradient = relative_error(got.gradients[i], exact.gradients[i], 0);
          std::printf(" %.1e", of_gradient);
          EXPECT_LE(of_gradient, bound) << variant.name << " " << c10::toString(dtype) << ", gradient " << i;
        }
        std::printf("\n");
      }
    }
  }
}

TEST_F(TransformerKernelTest, RunsAndRecomputesTheSameBits) {
  for (const Variant& variant : variants()) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const Results first = run(variant, 40, dtype, gpu());
      for (const Recompute recompute : {Recompute::kNone, Recompute::kBlock}) {
        const Results again = run(variant, 40, dtype, gpu(), recompute);
        EXPECT_TRUE(same_bits(again.y, first.y));
        for (std::size_t i = 0; i < first.gradients.size(); ++i)
          EXPECT_TRUE(same_bits(again.gradients[i], first.gradients[i]))
              << variant.name << " " << c10::toString(dtype) << " " << i;
      }
    }
  }
}

class AttentionKernelTest : public tests::KernelsTest {};

/// Many blocks of keys add to each query's gradient: where the flash kernel's atomics would show.
TEST_F(AttentionKernelTest, BackwardHasTheSameBitsEachTime) {
  const std::vector<std::int64_t> shape = {4, 1024, 8, 64};
  const auto gradients = [&] {
    std::vector<at::Tensor> leaves, heads, out;
    for (const std::uint64_t seed : {1, 2, 3}) {
      leaves.push_back(normal(shape, seed, at::kBFloat16).to(gpu()).set_requires_grad(true));
      heads.push_back(leaves.back().transpose(1, 2));
    }
    attention(heads[0], heads[1], heads[2], Mixing::kCausal)
        .transpose(1, 2)
        .backward(normal(shape, 4, at::kBFloat16).to(gpu()));
    for (const at::Tensor& one : leaves) out.push_back(one.grad());
    return out;
  };
  const std::vector<at::Tensor> first = gradients();
  for (int repetition = 0; repetition < 5; ++repetition) {
    const std::vector<at::Tensor> again = gradients();
    for (std::size_t i = 0; i < first.size(); ++i)
      EXPECT_TRUE(same_bits(again[i], first[i])) << "repetition " << repetition << ", gradient " << i;
  }
}

class DropoutKernelTest : public tests::KernelsTest {};

/// Parts of whole groups of four draws and of others, read as vectors and one by one.
TEST_F(DropoutKernelTest, DropsTheSameBitsAsTheCpu) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    for (const std::int64_t elements : {4, 1000, 1001, 70'003}) {
      const at::Tensor x = normal({3, elements}, 5, dtype);
      const at::Tensor samples = normal({3}, 6).mul(1e12).to(at::kLong).abs();
      const auto dropped = [&](at::Device device) {
        return dropout(
            x.to(device),
            {.rate = 0.2, .seed = 0x123456789abcdefULL, .samples_B = samples.to(device), .site = 9});
      };
      EXPECT_TRUE(same_bits(dropped(gpu()), dropped(at::kCPU))) << c10::toString(dtype) << " " << elements;
    }
  }
}

/// One query over all keys, as decoding asks, is the last row of all queries.
TEST_F(AttentionKernelTest, OneQueryIsTheLastRowOfAll) {
  std::vector<at::Tensor> heads;
  for (const std::uint64_t seed : {1, 2, 3})
    heads.push_back(normal({1, 4, 100, 32}, seed, at::kBFloat16).to(gpu()));
  const at::Tensor all = attention(heads[0], heads[1], heads[2], Mixing::kCausal);
  const at::Tensor last = attention(heads[0].narrow(2, 99, 1), heads[1], heads[2], Mixing::kFull);
  const double error = relative_error(last, all.narrow(2, 99, 1), 0);
  std::printf("one query: %.1e\n", error);
  EXPECT_LE(error, 0.01);
}

}  // namespace
}  // namespace sluice::kernels
