#include "trainer/kernels/toeplitz_strips.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/tril.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "trainer/kernels/toeplitz.h"

namespace sluice::kernels {
namespace {

struct Case {
  std::int64_t length, positions, rows;
  Mixing mixing;

  [[nodiscard]] bool causal() const { return mixing == Mixing::kCausal; }
  [[nodiscard]] at::Tensor whole(const at::Tensor& weights) const {
    const at::Tensor w_TT = toeplitz(weights, positions);
    return causal() ? at::tril(w_TT) : w_TT;
  }
};

Case random_case() {
  const auto length = *rc::gen::inRange<std::int64_t>(1, 60);
  return {.length = length,
          .positions = *rc::gen::inRange<std::int64_t>(1, length + 1),
          .rows = *rc::gen::inRange<std::int64_t>(1, 70),
          .mixing = *rc::gen::element(Mixing::kCausal, Mixing::kFull)};
}

/// Whole numbers: sums are exact in any order.
at::Tensor drawn(at::IntArrayRef shape) { return at::randint(-9, 10, shape, at::kDouble); }

RC_GTEST_PROP(ToeplitzStrip, HasTheRowsOfTheMatrixAndOfItsTranspose, ()) {
  const Case c = random_case();
  const at::Tensor weights = drawn({2 * c.length - 1});
  for (const auto of : {ToeplitzStrip::Of::kMatrix, ToeplitzStrip::Of::kTranspose}) {
    const bool transposed = of == ToeplitzStrip::Of::kTranspose;
    const at::Tensor whole = transposed ? c.whole(weights).t() : c.whole(weights);
    const ToeplitzStrip strip(weights, c.positions, c.rows, c.mixing, of);
    for (std::int64_t first = 0; first < c.positions; first += c.rows) {
      const std::int64_t end = std::min(first + c.rows, c.positions);
      const std::int64_t from = c.causal() && transposed ? first : 0;
      const std::int64_t to = c.causal() && !transposed ? end : c.positions;
      RC_ASSERT(
          at::equal(strip.block(first, end), whole.narrow(0, first, end - first).narrow(1, from, to - from)));
    }
  }
}

RC_GTEST_PROP(ToeplitzGradient, IsThatOfTheWholeMatrix, ()) {
  const Case c = random_case();
  const at::Tensor weights = drawn({2 * c.length - 1}).set_requires_grad(true);
  const at::Tensor gradient_TT = drawn({c.positions, c.positions});
  c.whole(weights).backward(gradient_TT);
  const at::Tensor before = drawn({2 * c.length - 1});
  const at::Tensor sum = before.clone();
  ToeplitzGradient gradient(c.positions, c.rows, c.mixing, sum);
  for (std::int64_t first = 0; first < c.positions; first += c.rows) {
    const std::int64_t end = std::min(first + c.rows, c.positions);
    gradient.add(first,
                 gradient_TT.narrow(0, first, end - first).narrow(1, 0, c.causal() ? end : c.positions));
  }
  gradient.add_to(sum);
  RC_ASSERT(at::equal(sum.sub(before), weights.grad()));
}

}  // namespace
}  // namespace sluice::kernels
