#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>

namespace sluice::model {

/// Vaswani et al. 2017, 3.5: channel 2i holds sin(t * 10000^(-2i/d)), channel 2i + 1 the cosine: [positions,
/// width], computed in float64 and rounded to the type of `options`.
[[nodiscard]] at::Tensor sinusoids(std::int64_t positions, std::int64_t width,
                                   const at::TensorOptions& options);

/// The positions of a model's call.
class CallPositions {
 public:
  /// first, first + 1, ...
  CallPositions(std::int64_t first, std::int64_t count) : first_(first), count_(count) {}
  /// Those of an int64 tensor, on the model's device.
  explicit CallPositions(at::Tensor index_t)
      : first_(0), count_(index_t.size(0)), index_t_(std::move(index_t)) {}

  /// Their rows of a table [n, ...]. Throws c10::Error where it has fewer.
  [[nodiscard]] at::Tensor of(const at::Tensor& table) const;
  [[nodiscard]] std::int64_t count() const { return count_; }
  /// Throws c10::Error unless a model of `positions` positions has them.
  void check(std::int64_t positions) const;

 private:
  std::int64_t first_;
  std::int64_t count_;
  at::Tensor index_t_;  ///< undefined: they are consecutive
};

}  // namespace sluice::model
