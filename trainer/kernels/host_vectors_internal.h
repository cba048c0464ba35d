#pragma once

#include <ATen/cpu/vec/vec.h>

#include "trainer/kernels/host_rows.h"

// Rows of float32 by ATen's Vectorized, whose one place this is. As in host_rows_internal.h everything has
// internal linkage.
namespace sluice::kernels::host {
namespace {

using V = at::vec::Vectorized<float>;
constexpr std::int64_t kLanes = V::size();

/// A vector's worth of columns.
struct Whole {
  static V load(const float* from) { return V::loadu(from); }
  static void store(const V& value, float* to) { value.store(to); }
  static V kept(const V& value) { return value; }
};
/// The last columns of a row: the other lanes are loaded as zeros, and not stored.
struct Part {
  [[nodiscard]] V load(const float* from) const { return V::loadu(from, count); }
  void store(const V& value, float* to) const { value.store(to, static_cast<int>(count)); }
  [[nodiscard]] V kept(const V& value) const { return V::set(V(0), value, count); }

  std::int64_t count;
};

/// body(Whole or Part, first column) over a row.
template <class Body>
void over_columns(std::int64_t width, const Body& body) {
  std::int64_t column = 0;
  for (; column + kLanes <= width; column += kLanes) body(Whole{}, column);
  if (column < width) body(Part{width - column}, column);
}

/// rows.template run<R>(first) over a chunk, kRowsAtOnce at a time, then one by one: as many sums that do not
/// wait for each other, and a column's sums and parameters are loaded once for all of them.
template <class Rows>
void over_rows(const Chunk& chunk, const Rows& rows) {
  std::int64_t row = chunk.first;
  for (; row + kRowsAtOnce <= chunk.end; row += kRowsAtOnce) rows.template run<kRowsAtOnce>(row);
  for (; row < chunk.end; ++row) rows.template run<1>(row);
}

/// x Phi(x) = x below, and its slope Phi(x) + x phi(x).
struct Gelu {
  V below;
  V slope;
};

/// Of value and slope within 4e-7 of 1 (or of the value): gelu_fast's formula (gelu.h), as ATen's own
/// vectorised erf has it, and an exponential within 4e-7 of itself.
inline Gelu gelu(const V& x) {
  const V t = V(1) / at::vec::fmadd(x.abs(), V(0.3275911F * 0.70710678F), V(1));
  const V bell = (x * x * V(-0.5F)).exp_u20();
  V tail = at::vec::fmadd(t, V(0.5F * 1.061405429F), V(0.5F * -1.453152027F));
  tail = at::vec::fmadd(t, tail, V(0.5F * 1.421413741F));
  tail = at::vec::fmadd(t, tail, V(0.5F * -0.284496736F));
  tail = at::vec::fmadd(t, tail, V(0.5F * 0.254829592F));
  tail = tail * t * bell;
  const V below = V::blendv(V(1) - tail, tail, x < V(0));
  return {below, at::vec::fmadd(x * V(0.39894228F), bell, below)};
}

template <int R>
struct RowSums {
  V of[R];
  RowSums() {
    for (V& one : of) one = V(0);
  }
};

}  // namespace
}  // namespace sluice::kernels::host
