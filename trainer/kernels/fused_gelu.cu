#include "trainer/kernels/cuda_check.cuh"
#include "trainer/kernels/cuda_fused_norm_rows.cuh"

namespace sluice::kernels::launch {
namespace {

using namespace rows;

/// Two blocks of a processor: their threads have registers for more rows at once than three blocks' would,
/// which hides the wait for a row's sums better.
template <typename S>
using Roomy = Size<S::kThreads, (S::kBlocks < 2 ? S::kBlocks : 2), S::kParts>;

template <typename S, typename C>
constexpr int kGeluForwardRows = S::kParts == 2 ? 1 : (S::kSpan == 16 || std::is_same_v<C, float> ? 2 : 4);

template <typename S, typename C>
__global__ void __launch_bounds__(S::kThreads, S::kBlocks)
    gelu_forward(const GeluForward a, const Shape shape) {
  constexpr int kRows = kGeluForwardRows<S, C>;
  __shared__ Exchange<S, kRows> exchange;
  const Seat<S::kParts> seat(shape);
  Eight weight[S::kParts], bias[S::kParts];
  fetch_vector<S::kParts, C>(weight, a.weight, seat);
  fetch_vector<S::kParts, C>(bias, a.bias, seat);
  RowStatistics<S, kRows> statistics(shape, seat, a.eps);
  Raw<C> ahead[kRows][S::kParts];
  const auto* input = static_cast<const C*>(a.input.data);
  const int step = shape.groups * kRows;
  const int stride = static_cast<int>(gridDim.x) * step;
  int turn = 0;
  if constexpr (S::kAhead)
    fetch_rows(ahead, input, a.input.stride, static_cast<int>(blockIdx.x) * step + seat.group * kRows, shape,
               seat);
  for (int base = static_cast<int>(blockIdx.x) * step; base < shape.rows; base += stride) {
    const int row = base + seat.group * kRows;
    if constexpr (!S::kAhead) fetch_rows(ahead, input, a.input.stride, row, shape, seat);
    Eight v[kRows][S::kParts];
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int part = 0; part < S::kParts; ++part) v[r][part] = values(ahead[r][part]);
    if constexpr (S::kAhead) fetch_rows(ahead, input, a.input.stride, row + stride, shape, seat);
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int part = 0; part < S::kParts; ++part)
#pragma unroll
        for (int i = 0; i < kVector; ++i) v[r][part].at[i] = gelu<C>(v[r][part].at[i]).value;
    float2 found[kRows];
    statistics.take(v, exchange.at[turn], found);
    turn ^= 1;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (row + r >= shape.rows) continue;
      const std::int64_t at = static_cast<std::int64_t>(row + r) * shape.width;
      put_normed(static_cast<C*>(a.y) + at, a.again == nullptr ? nullptr : static_cast<C*>(a.again) + at,
                 v[r], found[r], weight, bias, seat);
      if (seat.first) reinterpret_cast<float2*>(a.statistics)[row + r] = found[r];
    }
  }
}

// With g = dy * weight and n = (v - mean) * scale, dv = scale * (g - mean(g) - n * mean(g * n)).

template <typename S, typename C>
constexpr int kGeluBackwardRows = S::kParts == 2 || std::is_same_v<C, float> ? 1 : 2;

template <typename S, typename C>
__global__ void __launch_bounds__(S::kThreads, S::kBlocks)
    gelu_backward(const GeluBackward a, const Shape shape) {
  constexpr int kRows = kGeluBackwardRows<S, C>;
  __shared__ Exchange<S, kRows> exchange;
  __shared__ Leaver<S> leaver;
  const Seat<S::kParts> seat(shape);
  const float share = 1.0F / static_cast<float>(shape.width);
  Eight weight[S::kParts];
  if constexpr (S::kHolds) fetch_vector<S::kParts, C>(weight, a.weight, seat);
  float of_weight[S::kParts][kVector] = {};
  float of_bias[S::kParts][kVector] = {};
  float of_input[S::kParts][kVector] = {};
  struct {
    Raw<C> dy[kRows][S::kParts];
    Raw<C> input[kRows][S::kParts];
    float2 statistics[kRows];
  } ahead, now;
  const auto fetch_all = [&](auto& to, int row) {
    fetch_rows(to.input, static_cast<const C*>(a.input.data), a.input.stride, row, shape, seat);
    fetch_rows(to.dy, static_cast<const C*>(a.dy.data), a.dy.stride, row, shape, seat);
    fetch_statistics(to.statistics, a.statistics, row, shape);
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
    if constexpr (!S::kHolds) fetch_vector<S::kParts, C>(weight, a.weight, seat);
    Eight normed[kRows][S::kParts], slope[kRows][S::kParts], inner[kRows][S::kParts];
    float own[2 * kRows] = {};
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float scale = now.statistics[r].y;
      const float shift = -now.statistics[r].x * scale;
#pragma unroll
      for (int part = 0; part < S::kParts; ++part) {
        const Eight x = values(now.input[r][part]);
        const Eight outer = values(now.dy[r][part]);
#pragma unroll
        for (int i = 0; i < kVector; ++i) {
          const Gelu v = gelu<C>(x.at[i]);
          const float n = fmaf(v.value, scale, shift);
          const float g = outer.at[i] * weight[part].at[i];
          of_weight[part][i] = fmaf(outer.at[i], n, of_weight[part][i]);
          of_bias[part][i] += outer.at[i];
          own[2 * r] += g;
          own[2 * r + 1] = fmaf(g, n, own[2 * r + 1]);
          normed[r][part].at[i] = n;
          slope[r][part].at[i] = v.slope * scale;
          inner[r][part].at[i] = g;
        }
      }
    }
    float2 sums[kRows];
    row_sums<S, kRows>(own, exchange.at[turn], shape, seat, sums);
    turn ^= 1;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float mean = sums[r].x * share;
      const float tilt = -sums[r].y * share;
#pragma unroll
      for (int part = 0; part < S::kParts; ++part) {
        Eight out;
#pragma unroll
        for (int i = 0; i < kVector; ++i) {
          out.at[i] = slope[r][part].at[i] * fmaf(normed[r][part].at[i], tilt, inner[r][part].at[i] - mean);
          of_input[part][i] += out.at[i];
        }
        if (row + r < shape.rows && seat.taken[part])
          put(static_cast<C*>(a.dinput) + (row + r) * a.dinput_stride + seat.column[part], out);
      }
    }
  }
  const std::int64_t size = static_cast<std::int64_t>(gridDim.x) * shape.width;
  leaver.leave(of_weight, a.partials, seat, shape);
  leaver.leave(of_bias, a.partials + size, seat, shape);
  leaver.leave(of_input, a.partials + 2 * size, seat, shape);
}

}  // namespace

void gelu_norm_forward(const GeluForward& a, Precision compute, cudaStream_t stream) {
  for_compute(compute, [&]<typename C>(C) {
    for_width(a.width, [&]<typename Given>(Given) {
      using S = Roomy<Given>;
      const Shape shape = shape_of<S>(a.rows, a.width);
      gelu_forward<S, C><<<static_cast<unsigned>(blocks_of<S>(shape, kGeluForwardRows<S, C>)),
                           static_cast<unsigned>(threads_of(shape)), 0, stream>>>(a, shape);
    });
  });
  check_launch("gelu_norm_forward");
}

int gelu_norm_backward(const GeluBackward& a, Precision compute, cudaStream_t stream) {
  int blocks = 0;
  for_compute(compute, [&]<typename C>(C) {
    for_width(a.width, [&]<typename Given>(Given) {
      using S = Roomy<Given>;
      const Shape shape = shape_of<S>(a.rows, a.width);
      blocks = blocks_of<S>(shape, kGeluBackwardRows<S, C>);
      gelu_backward<S, C>
          <<<static_cast<unsigned>(blocks), static_cast<unsigned>(threads_of(shape)), 0, stream>>>(a, shape);
    });
  });
  check_launch("gelu_norm_backward");
  return blocks;
}

}  // namespace sluice::kernels::launch
