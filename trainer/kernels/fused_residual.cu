#include "trainer/kernels/cuda_check.cuh"
#include "trainer/kernels/cuda_fused_norm_rows.cuh"

namespace sluice::kernels::launch {
namespace {

using namespace rows;

template <typename S, typename R, typename C>
constexpr int kResidualForwardRows = S::kParts == 2 || std::is_same_v<C, float> ? 1 : 2;

template <typename S, typename R, typename C>
__global__ void __launch_bounds__(S::kThreads, S::kBlocks)
    residual_forward(const ResidualForward a, const Shape shape) {
  constexpr int kRows = kResidualForwardRows<S, R, C>;
  __shared__ Exchange<S, kRows> exchange;
  const Seat<S::kParts> seat(shape);
  Eight weight[S::kParts], bias[S::kParts], branch_bias[S::kParts];
  fetch_vector<S::kParts, C>(weight, a.weight, seat);
  fetch_vector<S::kParts, C>(bias, a.bias, seat);
  fetch_vector<S::kParts, C>(branch_bias, a.branch_bias, seat);
  RowStatistics<S, kRows> statistics(shape, seat, a.eps);
  struct {
    Raw<R> x[kRows][S::kParts];
    Raw<C> branch[kRows][S::kParts];
  } ahead, now;
  const auto fetch_all = [&](auto& to, int row) {
    fetch_rows(to.x, static_cast<const R*>(a.x), shape.width, row, shape, seat);
    fetch_rows(to.branch, static_cast<const C*>(a.branch), shape.width, row, shape, seat);
  };
  const int step = shape.groups * kRows;
  const int stride = static_cast<int>(gridDim.x) * step;
  int turn = 0;
  if constexpr (S::kAhead) fetch_all(ahead, static_cast<int>(blockIdx.x) * step + seat.group * kRows);
  for (int base = static_cast<int>(blockIdx.x) * step; base < shape.rows; base += stride) {
    const int row = base + seat.group * kRows;
    if constexpr (S::kAhead) {
      now = ahead;
      fetch_all(ahead, row + stride);
    } else {
      fetch_all(now, row);
    }
    Eight v[kRows][S::kParts];
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int part = 0; part < S::kParts; ++part) {
        const Eight x = values(now.x[r][part]);
        const Eight branch = values(now.branch[r][part]);
#pragma unroll
        for (int i = 0; i < kVector; ++i)
          v[r][part].at[i] = rounded<R>(x.at[i] + branch.at[i] + branch_bias[part].at[i]);
        if (a.branch != nullptr && row + r < shape.rows && seat.taken[part])
          put(static_cast<R*>(a.sum) + static_cast<std::int64_t>(row + r) * shape.width + seat.column[part],
              v[r][part]);
      }
    float2 found[kRows];
    statistics.take(v, exchange.at[turn], found);
    turn ^= 1;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (row + r >= shape.rows) continue;
      C* const y = static_cast<C*>(a.y) + static_cast<std::int64_t>(row + r) * shape.width;
      put_normed(y, static_cast<C*>(nullptr), v[r], found[r], weight, bias, seat);
      if (seat.first) reinterpret_cast<float2*>(a.statistics)[row + r] = found[r];
    }
  }
}

// With g = dy * weight and n = (v - mean) * scale, dv = scale * (g - mean(g) - n * mean(g * n)).

template <typename S, typename R, typename C>
__global__ void __launch_bounds__(S::kThreads, S::kBlocks)
    residual_backward(const ResidualBackward a, const Shape shape) {
  constexpr int kRows = 1;
  __shared__ Exchange<S, kRows> exchange;
  __shared__ Leaver<S> leaver;
  const Seat<S::kParts> seat(shape);
  const float share = 1.0F / static_cast<float>(shape.width);
  Eight weight[S::kParts];
  if constexpr (S::kHolds) fetch_vector<S::kParts, C>(weight, a.weight, seat);
  float of_weight[S::kParts][kVector] = {};
  float of_bias[S::kParts][kVector] = {};
  float of_branch[S::kParts][kVector] = {};
  struct {
    Raw<C> dy[kRows][S::kParts];
    Raw<R> dsum[kRows][S::kParts];
    Raw<R> sum[kRows][S::kParts];
    float2 statistics[kRows];
  } ahead, now;
  const auto fetch_all = [&](auto& to, int row) {
    fetch_rows(to.dy, static_cast<const C*>(a.dy), shape.width, row, shape, seat);
    fetch_rows(to.sum, static_cast<const R*>(a.sum), shape.width, row, shape, seat);
    fetch_rows(to.dsum, static_cast<const R*>(a.dsum), shape.width, row, shape, seat);
    fetch_statistics(to.statistics, a.statistics, row, shape);
  };
  const int stride = static_cast<int>(gridDim.x) * shape.groups;
  int turn = 0;
  if constexpr (S::kAhead) fetch_all(ahead, static_cast<int>(blockIdx.x) * shape.groups + seat.group);
  for (int base = static_cast<int>(blockIdx.x) * shape.groups; base < shape.rows; base += stride) {
    const int row = base + seat.group;
    if constexpr (S::kAhead) {
      now = ahead;
      fetch_all(ahead, row + stride);
    } else {
      fetch_all(now, row);
    }
    const float scale = now.statistics[0].y;
    const float shift = -now.statistics[0].x * scale;
    if constexpr (!S::kHolds) fetch_vector<S::kParts, C>(weight, a.weight, seat);
    Eight normed[S::kParts], inner[S::kParts];
    float own[2] = {};
#pragma unroll
    for (int part = 0; part < S::kParts; ++part) {
      const Eight v = values(now.sum[0][part]);
      const Eight outer = values(now.dy[0][part]);
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        const float n = fmaf(v.at[i], scale, shift);
        const float g = outer.at[i] * weight[part].at[i];
        of_weight[part][i] = fmaf(outer.at[i], n, of_weight[part][i]);
        of_bias[part][i] += outer.at[i];
        own[0] += g;
        own[1] = fmaf(g, n, own[1]);
        normed[part].at[i] = n;
        inner[part].at[i] = g;
      }
    }
    float2 sums[kRows];
    row_sums<S, kRows>(own, exchange.at[turn], shape, seat, sums);
    turn ^= 1;
    const float mean = sums[0].x * share;
    const float tilt = -sums[0].y * share;
#pragma unroll
    for (int part = 0; part < S::kParts; ++part) {
      Eight out = values(now.dsum[0][part]);
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        out.at[i] = fmaf(scale, fmaf(normed[part].at[i], tilt, inner[part].at[i] - mean), out.at[i]);
        of_branch[part][i] += out.at[i];
      }
      if (row >= shape.rows || !seat.taken[part]) continue;
      const std::int64_t at = static_cast<std::int64_t>(row) * shape.width + seat.column[part];
      put(static_cast<R*>(a.dx) + at, out);
      if (a.branch != nullptr) put(static_cast<C*>(a.branch) + at, out);
    }
  }
  const std::int64_t size = static_cast<std::int64_t>(gridDim.x) * shape.width;
  leaver.leave(of_weight, a.partials, seat, shape);
  leaver.leave(of_bias, a.partials + size, seat, shape);
  if (a.sums_branch) leaver.leave(of_branch, a.partials + 2 * size, seat, shape);
}

/// Calls run with an element of type R and one of type C.
template <typename Run>
void for_types(Precision residual, Precision compute, const Run& run) {
  if (compute == Precision::kFloat) return run(float{}, float{});
  if (residual == Precision::kFloat) return run(float{}, __nv_bfloat16{});
  run(__nv_bfloat16{}, __nv_bfloat16{});
}

}  // namespace

void residual_norm_forward(const ResidualForward& a, Precision residual, Precision compute,
                           cudaStream_t stream) {
  for_types(residual, compute, [&]<typename R, typename C>(R, C) {
    for_width(a.width, [&]<typename S>(S) {
      const Shape shape = shape_of<S>(a.rows, a.width);
      residual_forward<S, R, C><<<static_cast<unsigned>(blocks_of<S>(shape, kResidualForwardRows<S, R, C>)),
                                  static_cast<unsigned>(threads_of(shape)), 0, stream>>>(a, shape);
    });
  });
  check_launch("residual_norm_forward");
}

int residual_norm_backward(const ResidualBackward& a, Precision residual, Precision compute,
                           cudaStream_t stream) {
  int blocks = 0;
  for_types(residual, compute, [&]<typename R, typename C>(R, C) {
    for_width(a.width, [&]<typename S>(S) {
      const Shape shape = shape_of<S>(a.rows, a.width);
      blocks = blocks_of<S>(shape, 1);
      residual_backward<S, R, C>
          <<<static_cast<unsigned>(blocks), static_cast<unsigned>(threads_of(shape)), 0, stream>>>(a, shape);
    });
  });
  check_launch("residual_norm_backward");
  return blocks;
}

}  // namespace sluice::kernels::launch
