#pragma once

#include <ATen/ops/ones.h>

#include <cstdio>
#include <string>
#include <vector>

#include "tests/support/cross_entropy_cases.h"
#include "tests/support/kernel_tensors.h"
#include "trainer/kernels/autograd.h"

namespace sluice::tests {

/// A block of ATen's operators, or as one function.
enum class Path { kOracle, kFused };

struct BlockResults {
  at::Tensor y;
  std::vector<at::Tensor> gradients;  ///< of x, then of the parameters
};

/// Parameters of a block, drawn in turn, of values that bfloat16 holds exactly. Gradients of the fused path
/// add up in float32, from one on.
class BlockLeaves {
 public:
  BlockLeaves(at::ScalarType dtype, at::Device device, Path path)
      : dtype_(dtype), device_(device), path_(path) {}

  [[nodiscard]] Path path() const { return path_; }

  [[nodiscard]] at::Tensor rounded(const std::vector<std::int64_t>& shape, double centre,
                                   double scale) const {
    const at::Tensor values = normal(shape, 1 + leaves_.size(), at::kDouble).mul(scale).add(centre);
    return values.to(at::kBFloat16).to(device_, dtype_);
  }

  at::Tensor leaf(const std::vector<std::int64_t>& shape, double centre, double scale) {
    const at::Tensor value = rounded(shape, centre, scale);
    if (path_ == Path::kOracle) {
      leaves_.push_back(value.set_requires_grad(true));
    } else {
      sums_.push_back(at::ones(shape, value.options().dtype(at::kFloat)));
      leaves_.push_back(dtype_ == at::kFloat ? kernels::make_leaf(value, sums_.back())
                                             : kernels::make_rounded_leaf(value, sums_.back()));
    }
    return leaves_.back();
  }

  /// Backward of y from a drawn gradient.
  [[nodiscard]] BlockResults backward(const at::Tensor& y, const at::Tensor& x) const {
    y.backward(normal(y.sizes(), 99, at::kDouble).to(device_, y.scalar_type()));
    BlockResults results{.y = y.detach(), .gradients = {x.grad()}};
    for (std::size_t i = 0; i < leaves_.size(); ++i)
      results.gradients.push_back(path_ == Path::kFused ? sums_[i].sub(1) : leaves_[i].grad());
    return results;
  }

 private:
  at::ScalarType dtype_;
  at::Device device_;
  Path path_;
  std::vector<at::Tensor> leaves_;
  std::vector<at::Tensor> sums_;
};

/// Result and gradients against those of float64, each error relative to the largest value; prints them.
inline void expect_near(const std::string& what, const BlockResults& got, const BlockResults& exact,
                        double bound) {
  std::printf("%s: result %.1e, gradients", what.c_str(), relative_error(got.y, exact.y, 0));
  EXPECT_LE(relative_error(got.y, exact.y, 0), bound) << what;
  for (std::size_t i = 0; i < exact.gradients.size(); ++i) {
    const double error = relative_error(got.gradients[i], exact.gradients[i], 0);
    std::printf(" %.1e", error);
    EXPECT_LE(error, bound) << what << ", gradient " << i;
  }
  std::printf("\n");
}

inline void expect_same_bits(const BlockResults& got, const BlockResults& expected) {
  EXPECT_TRUE(same_bits(got.y, expected.y));
  for (std::size_t i = 0; i < expected.gradients.size(); ++i)
    EXPECT_TRUE(same_bits(got.gradients[i], expected.gradients[i])) << "gradient " << i;
}

}  // namespace sluice::tests
