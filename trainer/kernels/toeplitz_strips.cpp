#include "trainer/kernels/toeplitz_strips.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "trainer/kernels/toeplitz.h"

namespace sluice::kernels {
namespace {

/// Products want rows at multiples of 16 bytes.
constexpr std::int64_t kVector = 8;

std::int64_t last_first(std::int64_t positions, std::int64_t rows) { return (positions - 1) / rows * rows; }

/// Weights of distances -(T - 1) ... T - 1; causal: zero for those ahead.
at::Tensor by_distance(const at::Tensor& weights, std::int64_t positions, Mixing mixing) {
  const std::int64_t first = toeplitz_positions(weights) - positions;
  if (mixing == Mixing::kFull) return weights.narrow(0, first, 2 * positions - 1);
  return at::constant_pad_nd(weights.narrow(0, first, positions), {0, positions - 1});
}

}  // namespace

/// strip[a][k] is the weight of distance lowest + k - a.
ToeplitzStrip::ToeplitzStrip(const at::Tensor& weights, std::int64_t positions, std::int64_t rows,
                             Mixing mixing, Of of)
    : positions_(positions),
      mixing_(mixing),
      of_(of),
      lowest_(mixing == Mixing::kCausal && of == Of::kTranspose ? 0 : -last_first(positions, rows)) {
  const std::int64_t height = std::min(rows, positions);
  const std::int64_t highest = mixing == Mixing::kCausal && of == Of::kMatrix ? height : positions;
  const std::int64_t columns = (highest - lowest_ + kVector - 1) / kVector * kVector;
  at::Tensor values = by_distance(weights, positions, mixing);
  if (of == Of::kTranspose) values = values.flip({0});
  // Rows from the last to the first begin one weight later than the one before: the same memory, read again.
  const at::Tensor padded = at::constant_pad_nd(values, {height - 1, height - 1 + kVector});
  strip_ = padded.as_strided({height, columns}, {1, 1}, positions - 1 + lowest_).flip({0});
}

at::Tensor ToeplitzStrip::block(std::int64_t first, std::int64_t end) const {
  const bool causal = mixing_ == Mixing::kCausal;
  const std::int64_t from = causal && of_ == Of::kTranspose ? first : 0;
  const std::int64_t to = causal && of_ == Of::kMatrix ? end : positions_;
  return strip_.narrow(0, 0, end - first).narrow(1, from - first - lowest_, to - from);
}

ToeplitzGradient::ToeplitzGradient(std::int64_t positions, std::int64_t rows, Mixing mixing,
                                   const at::Tensor& like)
    : positions_(positions), mixing_(mixing), lowest_(-last_first(positions, rows)) {
  const std::int64_t height = std::min(rows, positions);
  const std::int64_t columns = (mixing == Mixing::kCausal ? height : positions) - lowest_;
  const std::int64_t distances = columns + height - 1;  // from lowest - (height - 1) on
  by_distance_ = at::zeros({height, distances}, like.options());
  by_column_ = by_distance_.as_strided({height, columns}, {distances - 1, 1}, height - 1);
}

void ToeplitzGradient::add(std::int64_t first, const at::Tensor& gradient_rs) {
  by_column_.narrow(0, 0, gradient_rs.size(0))
      .narrow(1, -first - lowest_, gradient_rs.size(1))
      .add_(gradient_rs);
}

void ToeplitzGradient::add_to(const at::Tensor& sum) const {
  const at::Tensor all = at::sum(by_distance_, 0);
  const std::int64_t lowest = lowest_ - (by_distance_.size(0) - 1);
  const std::int64_t from = std::max(lowest, 1 - positions_);  // those before it have no rows
  const std::int64_t highest = lowest + all.size(0) - 1;
  const std::int64_t to = std::min(highest, mixing_ == Mixing::kCausal ? 0 : positions_ - 1);
  sum.narrow(0, toeplitz_positions(sum) - 1 + from, to - from + 1)
      .add_(all.narrow(0, from - lowest, to - from + 1));
}

}  // namespace sluice::kernels
