#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "trainer/kernels/mixing.h"

// Products with a Toeplitz W (toeplitz.h) of T positions, some rows at a time, without all of it in memory:
// rows differ by a shift alone, so that those of each product are a window of one strip.
namespace sluice::kernels {

/// What blocks of `rows` rows of W, or of its transpose, read. W causal: zero above the diagonal.
class ToeplitzStrip {
 public:
  enum class Of { kMatrix, kTranspose };
  /// `weights` [2 n - 1], n >= positions.
  ToeplitzStrip(const at::Tensor& weights, std::int64_t positions, std::int64_t rows, Mixing mixing, Of of);

  /// Rows [first, end), `first` a multiple of `rows`, and of them the columns that are not all zero: of a
  /// causal matrix [0, end), of its transpose [first, T), otherwise all. A view, rows at a stride.
  [[nodiscard]] at::Tensor block(std::int64_t first, std::int64_t end) const;

 private:
  std::int64_t positions_;
  Mixing mixing_;
  Of of_;
  std::int64_t lowest_;  ///< distance j - i at the strip's first row and column
  at::Tensor strip_;
};

/// The gradient of `weights`, from gradients of blocks of rows.
class ToeplitzGradient {
 public:
  /// `like`: type and device of what is added up.
  ToeplitzGradient(std::int64_t positions, std::int64_t rows, Mixing mixing, const at::Tensor& like);

  /// That of rows [first, first + r) and columns [0, s) of W, [r, s]; of a causal one what is above the
  /// diagonal does not count.
  void add(std::int64_t first, const at::Tensor& gradient_rs);
  /// Adds the sum along diagonals to `sum` [2 n - 1].
  void add_to(const at::Tensor& sum) const;

 private:
  std::int64_t positions_;
  Mixing mixing_;
  std::int64_t lowest_;
  at::Tensor by_distance_;  ///< [rows, distances]: rows of W, each at its place among distances
  at::Tensor by_column_;    ///< the same memory: a row begins where the strip does
};

}  // namespace sluice::kernels
