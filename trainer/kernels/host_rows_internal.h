#pragma once

#include "trainer/kernels/host_rows.h"
#include "trainer/kernels/host_vectors_internal.h"

// The row loops, included once by each source that is compiled for an instruction set (host_rows_avx2.cpp,
// host_rows_avx512.cpp): everything has internal linkage.
namespace sluice::kernels::host {
namespace {

/// Layer norm of R rows at `values`, whose elements' sums are known, into y (which may be `values`).
template <int R>
void normalise(const RowSums<R>& sums, const float* values, float* y, float* statistics, const float* weight,
               const float* bias, std::int64_t width, float eps) {
  const float share = 1 / static_cast<float>(width);
  V mean[R];
  V scale[R];
  for (int r = 0; r < R; ++r) mean[r] = V(sums.of[r].reduce_add() * share);
  RowSums<R> squares;
  over_columns(width, [&](auto part, std::int64_t c) {
    for (int r = 0; r < R; ++r) {
      const V apart = part.kept(part.load(values + r * width + c) - mean[r]);
      squares.of[r] = at::vec::fmadd(apart, apart, squares.of[r]);
    }
  });
  for (int r = 0; r < R; ++r) {
    const float deviation = __builtin_sqrtf(squares.of[r].reduce_add() * share + eps);
    scale[r] = V(1 / deviation);
    statistics[2 * r] = sums.of[r].reduce_add() * share;
    statistics[2 * r + 1] = 1 / deviation;
  }
  over_columns(width, [&](auto part, std::int64_t c) {
    const V w = part.load(weight + c);
    const V b = part.load(bias + c);
    for (int r = 0; r < R; ++r) {
      const V normed = (part.load(values + r * width + c) - mean[r]) * scale[r];
      part.store(at::vec::fmadd(normed, w, b), y + r * width + c);
    }
  });
}

/// What of a row its norm's backward needs: gradient = scale dy w + by_normed normed + shift.
template <int R>
struct NormGradient {
  NormGradient(const float* statistics) {
    for (int r = 0; r < R; ++r) {
      mean[r] = V(statistics[2 * r]);
      scale[r] = V(statistics[2 * r + 1]);
    }
  }
  [[nodiscard]] V normed(int r, const V& value) const { return (value - mean[r]) * scale[r]; }
  void add(int r, const V& dy_w, const V& normed) {
    sums.of[r] = sums.of[r] + dy_w;
    products.of[r] = at::vec::fmadd(dy_w, normed, products.of[r]);
  }
  void finish(std::int64_t width) {
    const V share(-1 / static_cast<float>(width));
    for (int r = 0; r < R; ++r) {
      shift[r] = V(sums.of[r].reduce_add()) * share * scale[r];
      by_normed[r] = V(products.of[r].reduce_add()) * share * scale[r];
    }
  }
  [[nodiscard]] V of(int r, const V& dy_w, const V& normed) const {
    return at::vec::fmadd(dy_w, scale[r], at::vec::fmadd(normed, by_normed[r], shift[r]));
  }

  V mean[R];
  V scale[R];
  V shift[R];
  V by_normed[R];
  RowSums<R> sums;
  RowSums<R> products;
};

struct ResidualNormForwardRows {
  const ResidualNormForward& p;

  template <int R>
  void run(std::int64_t row) const {
    const std::int64_t width = p.width;
    const float* x = p.x + row * width;
    const float* values = x;
    RowSums<R> sums;
    if (p.branch != nullptr) {
      const float* branch = p.branch + row * width;
      float* sum = p.sum + row * width;
      over_columns(width, [&](auto part, std::int64_t c) {
        const V bias = part.load(p.branch_bias + c);
        for (int r = 0; r < R; ++r) {
          const V value = part.load(x + r * width + c) + (part.load(branch + r * width + c) + bias);
          part.store(value, sum + r * width + c);
          sums.of[r] = sums.of[r] + value;
        }
      });
      values = sum;
    } else {
      over_columns(width, [&](auto part, std::int64_t c) {
        for (int r = 0; r < R; ++r) sums.of[r] = sums.of[r] + part.load(x + r * width + c);
      });
    }
    normalise(sums, values, p.y + row * width, p.statistics + 2 * row, p.weight, p.bias, width, p.eps);
  }
};

struct ResidualNormBackwardRows {
  const ResidualNormBackward& p;
  float* sums;

  template <int R>
  void run(std::int64_t row) const {
    const std::int64_t width = p.width;
    const float* dy = p.dy + row * width;
    const float* sum = p.sum + row * width;
    float* dx = p.dx + row * width;
    NormGradient<R> norm(p.statistics + 2 * row);
    over_columns(width, [&](auto part, std::int64_t c) {
      const V w = part.load(p.weight + c);
      for (int r = 0; r < R; ++r)
        norm.add(r, part.load(dy + r * width + c) * w, norm.normed(r, part.load(sum + r * width + c)));
    });
    norm.finish(width);
    over_columns(width, [&](auto part, std::int64_t c) {
      const V w = part.load(p.weight + c);
      V of_weight = part.load(sums + c);
      V of_bias = part.load(sums + width + c);
      V of_x = part.load(sums + 2 * width + c);
      for (int r = 0; r < R; ++r) {
        const V outer = part.load(dy + r * width + c);
        const V normed = norm.normed(r, part.load(sum + r * width + c));
        V inner = norm.of(r, outer * w, normed);
        if (p.dsum != nullptr) inner = inner + part.load(p.dsum + (row + r) * width + c);
        part.store(inner, dx + r * width + c);
        of_weight = at::vec::fmadd(outer, normed, of_weight);
        of_bias = of_bias + outer;
        of_x = of_x + inner;
      }
      part.store(of_weight, sums + c);
      part.store(of_bias, sums + width + c);
      part.store(of_x, sums + 2 * width + c);
    });
  }
};

struct GeluNormForwardRows {
  const GeluNormForward& p;

  template <int R>
  void run(std::int64_t row) const {
    const float* input = p.input.data + row * p.input.stride;
    float* y = p.y + row * p.width;
    RowSums<R> sums;
    over_columns(p.width, [&](auto part, std::int64_t c) {
      for (int r = 0; r < R; ++r) {
        const V x = part.load(input + r * p.input.stride + c);
        const V value = x * gelu(x).below;  // of a lane beyond the row: 0
        part.store(value, y + r * p.width + c);
        sums.of[r] = sums.of[r] + value;
      }
    });
    normalise(sums, y, y, p.statistics + 2 * row, p.weight, p.bias, p.width, p.eps);
  }
};

struct GeluNormBackwardRows {
  const GeluNormBackward& p;
  float* sums;
  float* values;  ///< [R, width]: GELU's results; its slopes wait in dinput

  template <int R>
  void run(std::int64_t row) const {
    const std::int64_t width = p.width;
    const float* dy = p.dy.data + row * p.dy.stride;
    const float* input = p.input.data + row * p.input.stride;
    float* dinput = p.dinput + row * p.dinput_stride;
    NormGradient<R> norm(p.statistics + 2 * row);
    over_columns(width, [&](auto part, std::int64_t c) {
      const V w = part.load(p.weight + c);
      for (int r = 0; r < R; ++r) {
        const V x = part.load(input + r * p.input.stride + c);
        const Gelu g = gelu(x);
        const V normed = norm.normed(r, x * g.below);
        part.store(normed, values + r * width + c);
        part.store(g.slope, dinput + r * p.dinput_stride + c);
        norm.add(r, part.load(dy + r * p.dy.stride + c) * w, normed);
      }
    });
    norm.finish(width);
    over_columns(width, [&](auto part, std::int64_t c) {
      const V w = part.load(p.weight + c);
      V of_weight = part.load(sums + c);
      V of_bias = part.load(sums + width + c);
      V of_input = part.load(sums + 2 * width + c);
      for (int r = 0; r < R; ++r) {
        const V outer = part.load(dy + r * p.dy.stride + c);
        const V normed = part.load(values + r * width + c);
        float* const at = dinput + r * p.dinput_stride + c;
        const V inner = norm.of(r, outer * w, normed) * part.load(at);
        part.store(inner, at);
        of_weight = at::vec::fmadd(outer, normed, of_weight);
        of_bias = of_bias + outer;
        of_input = of_input + inner;
      }
      part.store(of_weight, sums + c);
      part.store(of_bias, sums + width + c);
      part.store(of_input, sums + 2 * width + c);
    });
  }
};

inline V bias_at(const float* bias, std::int64_t row, std::int64_t positions) {
  return V(bias == nullptr ? 0.0F : bias[row % positions]);
}

struct GateForwardRows {
  const GateForward& p;

  template <int R>
  void run(std::int64_t row) const {
    V bias[R];
    for (int r = 0; r < R; ++r) bias[r] = bias_at(p.bias, row + r, p.positions);
    over_columns(p.width, [&](auto part, std::int64_t c) {
      for (int r = 0; r < R; ++r) {
        const V x = part.load(p.input.data + (row + r) * p.input.stride + c);
        const V gate = part.load(p.mixed.data + (row + r) * p.mixed.stride + c) + bias[r];
        part.store(x * gelu(x).below * gate, p.z + (row + r) * p.width + c);
      }
    });
  }
};

struct GateBackwardRows {
  const GateBackward& p;
  float* sums;

  template <int R>
  void run(std::int64_t row) const {
    V bias[R];
    for (int r = 0; r < R; ++r) bias[r] = bias_at(p.bias, row + r, p.positions);
    RowSums<R> of_rows;
    over_columns(p.width, [&](auto part, std::int64_t c) {
      V of_input = part.load(sums + c);
      for (int r = 0; r < R; ++r) {
        const V outer = part.load(p.dz.data + (row + r) * p.dz.stride + c);
        const V x = part.load(p.input.data + (row + r) * p.input.stride + c);
        const V gate = part.load(p.mixed.data + (row + r) * p.mixed.stride + c) + bias[r];
        const Gelu g = gelu(x);
        const V value = x * g.below;
        const V dmixed = outer * value;
        const V inner = outer * gate * g.slope;
        part.store(value * gate, p.z + (row + r) * p.width + c);
        part.store(dmixed, p.dmixed + (row + r) * p.width + c);
        part.store(inner, p.dinput + (row + r) * p.dinput_stride + c);
        of_rows.of[r] = of_rows.of[r] + dmixed;
        of_input = of_input + inner;
      }
      part.store(of_input, sums + c);
    });
    for (int r = 0; r < R; ++r) p.row_sums[row + r] = of_rows.of[r].reduce_add();
  }
};

constexpr RowLoops kLoops = {
    [](const ResidualNormForward& p, const Chunk& c) { over_rows(c, ResidualNormForwardRows{p}); },
    [](const ResidualNormBackward& p, const Chunk& c) {
      over_rows(c, ResidualNormBackwardRows{p, c.sums});
    },
    [](const GeluNormForward& p, const Chunk& c) { over_rows(c, GeluNormForwardRows{p}); },
    [](const GeluNormBackward& p, const Chunk& c) {
      over_rows(c, GeluNormBackwardRows{p, c.sums, c.scratch});
    },
    [](const GateForward& p, const Chunk& c) { over_rows(c, GateForwardRows{p}); },
    [](const GateBackward& p, const Chunk& c) {
      over_rows(c, GateBackwardRows{p, c.sums});
    }};

}  // namespace
}  // namespace sluice::kernels::host
