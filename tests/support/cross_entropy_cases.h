#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <ostream>

namespace sluice::tests {

/// A head and its targets, drawn on the CPU from `seed`.
struct HeadCase {
  std::int64_t rows = 0;
  std::int64_t width = 0;
  std::int64_t vocabulary = 0;
  std::int64_t chunk_rows = 0;
  double scale = 1;  ///< of x: 1 gives logits of a few units, 1e4 extreme ones
  double ignored_share = 0.25;
  bool bias = true;
  std::uint64_t seed = 1;
};
inline std::ostream& operator<<(std::ostream& out, const HeadCase& c) {
  return out << "rows " << c.rows << ", width " << c.width << ", vocabulary " << c.vocabulary
             << ", chunks of " << c.chunk_rows << ", scale " << c.scale << ", ignored " << c.ignored_share
             << (c.bias ? ", bias" : ", no bias") << ", seed " << c.seed;
}

struct Head {
  at::Tensor x_Td, weight_Vd, bias_V, targets_T;
};
/// float64 values, rounded to bfloat16 so that every type holds them exactly.
[[nodiscard]] Head make_head(const HeadCase& c);

struct HeadResult {
  at::Tensor loss, x_Td, weight_Vd, bias_V;  ///< the loss and its gradients times `outer`
};
/// By linear_cross_entropy in `dtype` on `device`, forward and backward.
[[nodiscard]] HeadResult run_head(const Head& head, at::ScalarType dtype, at::Device device,
                                  std::int64_t chunk_rows, double outer);
/// By full logits and at::cross_entropy_loss, in float64 on the CPU.
[[nodiscard]] HeadResult run_reference(const Head& head, double outer);

/// Largest absolute difference over the largest absolute value of `expected`, which counts as at least
/// `floor`.
[[nodiscard]] double relative_error(const at::Tensor& actual, const at::Tensor& expected, double floor);

}  // namespace sluice::tests
