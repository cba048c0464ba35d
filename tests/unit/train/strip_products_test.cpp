#include "trainer/kernels/strip_products.h"

#include <ATen/ops/index_select.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/tril.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include "tests/support/small_model.h"

// Rows of W may stand anywhere: what a rank holds of it has them one after another.

namespace sluice::kernels {
namespace {

using sluice::testing::relative_error;

constexpr std::int64_t kPositions = 37;
constexpr double kBound = 1e-13;

struct Case {
  SequenceRows rows;
  std::int64_t rank;
  Mixing mixing;

  [[nodiscard]] StripProduct product() const {
    return {rows.strips(rank), {{{0, rows.positions()}, 0}}, mixing};
  }
  [[nodiscard]] at::Tensor held() const { return at::tensor(rows.held(rank), at::kLong); }
};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const std::int64_t ranks : {1, 2, 3, 4})
    for (std::int64_t rank = 0; rank < ranks; ++rank)
      for (const Mixing mixing : {Mixing::kCausal, Mixing::kFull})
        cases.push_back({SequenceRows(kPositions, ranks, 4), rank, mixing});
  return cases;
}

class StripProductTest : public ::testing::Test {
 protected:
  [[nodiscard]] at::Tensor read(const Case& of) const {
    return of.mixing == Mixing::kCausal ? at::tril(weight_nn_) : weight_nn_;
  }

  at::Tensor weight_nn_ = at::randn({kPositions, kPositions}, at::kDouble);
  at::Tensor gate_Bnc_ = at::randn({2, kPositions, 5}, at::kDouble);
  at::Tensor dmixed_Bnc_ = at::randn({2, kPositions, 5}, at::kDouble);
};

TEST_F(StripProductTest, OfHeldRowsOfTheWeight) {
  for (const Case& of : all_cases()) {
    const at::Tensor held = of.held();
    const at::Tensor weight_tn = weight_nn_.index_select(0, held);
    const at::Tensor out = at::zeros({2, held.numel(), 5}, at::kDouble);
    of.product().add_mixed(out, weight_tn, gate_Bnc_);
    const at::Tensor want = at::matmul(read(of), gate_Bnc_).index_select(1, held);
    EXPECT_LT(relative_error(out, want), kBound) << of.rows.ranks() << " ranks, rank " << of.rank;

    const at::Tensor dmixed = dmixed_Bnc_.index_select(1, held);
    const at::Tensor dgate = at::zeros_like(gate_Bnc_);
    of.product().add_input_gradient(dgate, weight_tn, dmixed);
    EXPECT_LT(relative_error(dgate, at::matmul(read(of).index_select(0, held).t(), dmixed)), kBound);
  }
}

TEST_F(StripProductTest, GradientsOfHeldRowsAreAdded) {
  const at::Tensor of_all = at::matmul(dmixed_Bnc_, gate_Bnc_.transpose(1, 2)).sum(0);
  for (const Case& of : all_cases()) {
    const at::Tensor held = of.held();
    const at::Tensor sum_tn = at::ones({held.numel(), kPositions}, at::kDouble);
    of.product().add_weight_gradient(sum_tn, dmixed_Bnc_.index_select(1, held), gate_Bnc_);
    const at::Tensor whole = of.mixing == Mixing::kCausal ? at::tril(of_all) : of_all;
    EXPECT_LT(relative_error(sum_tn, whole.index_select(0, held).add(1)), kBound)
        << of.rows.ranks() << " ranks, rank " << of.rank;
  }
}

TEST_F(StripProductTest, AWholeWeightHasRowsAtTheirPositions) {
  const StripProduct product{{{{20, 37}, 20}, {{0, 20}, 0}}, {{{0, kPositions}, 0}}, Mixing::kCausal};
  const at::Tensor out = at::zeros_like(gate_Bnc_);
  product.add_mixed(out, weight_nn_, gate_Bnc_);
  EXPECT_LT(relative_error(out, at::matmul(at::tril(weight_nn_), gate_Bnc_)), kBound);
}

}  // namespace
}  // namespace sluice::kernels
