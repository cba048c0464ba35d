#include <ATen/ops/ones.h>

#include <cstdio>
#include <string>
#include <vector>

#include "tests/gpu/kernel_tensors.h"
#include "tests/support/cross_entropy_cases.h"
#include "trainer/kernels/autograd.h"
#include "trainer/kernels/embedding.h"
#include "trainer/kernels/fused_block.h"

// gMLP blocks, fused and by ATen, and the embedding on a GPU, forward and backward, against float64 on the
// CPU.
namespace sluice::kernels {
namespace {

using tests::gpu;
using tests::normal;
using tests::relative_error;
using tests::same_bits;

constexpr std::int64_t kWidth = 24;

struct Sizes {
  std::int64_t batch, positions, width, half;
  Mixing mixing;
};
/// The last: of which ATen multiplies a bfloat16 spatial product, since rows of W are not at multiples of 16
/// bytes.
const Sizes kSizes[] = {{3, 40, kWidth, 48, Mixing::kCausal},
                        {2, 264, 64, 136, Mixing::kCausal},
                        {2, 128, 128, 64, Mixing::kFull},
                        {2, 33, kWidth, 40, Mixing::kCausal}};

/// A block's parameters in GmlpBlock's order: shape, centre, scale. W of a scale at which the product matters
/// beside b.
struct Drawn {
  std::vector<std::int64_t> shape;
  double centre;
  double scale;
};
std::vector<Drawn> drawn_of(const Sizes& s) {
  return {{{s.width}, 1, 0.1},
          {{s.width}, 0, 0.1},
          {{2 * s.half, s.width}, 0, 0.2},
          {{2 * s.half}, 0, 0.1},
          {{s.half}, 1, 0.1},
          {{s.half}, 0, 0.1},
          {{s.positions, s.positions}, 0, 0.1},
          {{s.positions}, 1, 0.1},
          {{s.width, s.half}, 0, 0.15},
          {{s.width}, 0, 0.1}};
}

struct Results {
  at::Tensor y;
  std::vector<at::Tensor> gradients;  ///< of x, then of all parameters
};

enum class Path { kOracle, kFused };

/// Two blocks and a norm over values that bfloat16 holds exactly, x in the residual stream's type. Gradients
/// of the fused path add up in float32, from one on.
class Chain {
 public:
  Chain(const Sizes& sizes, at::ScalarType dtype, at::Device device)
      : sizes_(sizes), dtype_(dtype), device_(device) {}

  Results run(Path path, Recompute recompute = Recompute::kNone) {
    path_ = path;
    leaves_.clear();
    sums_.clear();
    const at::Tensor x = rounded({sizes_.batch, sizes_.positions, sizes_.width}, 0, 1)
                             .to(residual_type(dtype_))
                             .set_requires_grad(true);
    const GmlpBlock first = make_block(recompute);
    const GmlpBlock second = make_block(recompute);
    const at::Tensor weight = leaf({{sizes_.width}, 1, 0.1});
    const at::Tensor bias = leaf({{sizes_.width}, 0, 0.1});
    Results results;
    if (path == Path::kFused) {
      EXPECT_TRUE(has_fused_block(x, first));
      results.y =
          residual_norm(fused_block(fused_block({x, {}, {}}, first), second), weight, bias, 1e-5).y_Td;
    } else {
      results.y = layer_norm(gmlp_block(gmlp_block(x, first), second), weight, bias, 1e-5).flatten(0, 1);
    }
    results.y.backward(normal(results.y.sizes(), 99, at::kDouble).to(device_, results.y.scalar_type()));
    results.gradients.push_back(x.grad());
    for (std::size_t i = 0; i < leaves_.size(); ++i)
      results.gradients.push_back(path == Path::kFused ? sums_[i].sub(1) : leaves_[i].grad());
    results.y = results.y.detach();
    return results;
  }

 private:
  at::Tensor rounded(const std::vector<std::int64_t>& shape, double centre, double scale) {
    const at::Tensor values = normal(shape, 1 + leaves_.size(), at::kDouble).mul(scale).add(centre);
    return values.to(at::kBFloat16).to(device_, dtype_);
  }
  at::Tensor leaf(const Drawn& drawn) {
    const at::Tensor value = rounded(drawn.shape, drawn.centre, drawn.scale);
    if (path_ == Path::kOracle) {
      leaves_.push_back(value.set_requires_grad(true));
    } else {
      sums_.push_back(at::ones(drawn.shape, value.options().dtype(at::kFloat)));
      leaves_.push_back(dtype_ == at::kFloat ? make_leaf(value, sums_.back())
                                             : make_rounded_leaf(value, sums_.back()));
    }
    return leaves_.back();
  }
  GmlpBlock make_block(Recompute recompute) {
    std::vector<at::Tensor> p;
    for (const Drawn& drawn : drawn_of(sizes_)) p.push_back(leaf(drawn));
    return {p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], sizes_.mixing, 1e-5, recompute};
  }

  Sizes sizes_;
  at::ScalarType dtype_;
  at::Device device_;
  Path path_ = Path::kOracle;
  std::vector<at::Tensor> leaves_;
  std::vector<at::Tensor> sums_;
};

class BlockKernelTest : public tests::KernelsTest {};

TEST_F(BlockKernelTest, IsNearFloat64) {
  for (const Sizes& sizes : kSizes) {
    const Results exact = Chain(sizes, at::kDouble, at::kCPU).run(Path::kOracle);
    for (const Path path : {Path::kFused, Path::kOracle}) {
      for (const auto& [dtype, bound] : {std::pair{at::kFloat, 2e-5}, std::pair{at::kBFloat16, 0.05}}) {
        const Results got = Chain(sizes, dtype, gpu()).run(path);
        EXPECT_EQ(got.y.scalar_type(), dtype);
        std::printf("%s %s n %d: result %.1e, gradients", path == Path::kFused ? "fused" : "ATen",
                    c10::toString(dtype), static_cast<int>(sizes.positions),
                    relative_error(got.y, exact.y, 0));
        EXPECT_LE(relative_error(got.y, exact.y, 0), bound);
        for (std::size_t i = 0; i < exact.gradients.size(); ++i) {
          const double error = relative_error(got.gradients[i], exact.gradients[i], 0);
          std::printf(" %.1e", error);
          EXPECT_LE(error, bound) << c10::toString(dtype) << ", gradient " << i;
        }
        std::printf("\n");
      }
    }
  }
}

TEST_F(BlockKernelTest, RecomputeChangesNoBit) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    for (const Sizes& sizes : kSizes) {
      const Results kept = Chain(sizes, dtype, gpu()).run(Path::kFused);
      for (const Recompute recompute : {Recompute::kNone, Recompute::kGate, Recompute::kBlock}) {
        const Results again = Chain(sizes, dtype, gpu()).run(Path::kFused, recompute);
        EXPECT_TRUE(same_bits(again.y, kept.y));
        for (std::size_t i = 0; i < kept.gradients.size(); ++i)
          EXPECT_TRUE(same_bits(again.gradients[i], kept.gradients[i])) << c10::toString(dtype) << " " << i;
      }
    }
  }
}

class EmbeddingKernelTest : public tests::KernelsTest {};

/// Few tokens, each on many rows: where ATen would add up by atomics.
TEST_F(EmbeddingKernelTest, GradientOfFewTokensIsExactAndHasTheSameBitsEachTime) {
  constexpr std::int64_t kVocabulary = 65, kRows = 20'000;
  const at::Tensor tokens = normal({kRows}, 1).abs().mul(30).clamp_max(kVocabulary - 1).to(at::kLong);
  const at::Tensor outer = normal({kRows, kWidth}, 2);
  const auto gradient = [&](at::ScalarType dtype, at::Device device) {
    const at::Tensor weight =
        normal({kVocabulary, kWidth}, 3, at::kBFloat16).to(device, dtype).set_requires_grad(true);
    const at::Tensor rows = embedding(weight, tokens.to(device));
    EXPECT_EQ(rows.scalar_type(), residual_type(dtype));
    rows.backward(outer.to(device, rows.scalar_type()));
    return weight.grad();
  };
  const at::Tensor exact = gradient(at::kDouble, at::kCPU);
  for (const auto& [dtype, bound] : {std::pair{at::kFloat, 1e-5}, std::pair{at::kBFloat16, 1.0 / 256}}) {
    const at::Tensor first = gradient(dtype, gpu());
    EXPECT_EQ(first.scalar_type(), dtype);
    EXPECT_LE(relative_error(first, exact, 0), bound);
    for (int again = 0; again < 5; ++again) EXPECT_TRUE(same_bits(gradient(dtype, gpu()), first));
  }
}

}  // namespace
}  // namespace sluice::kernels
