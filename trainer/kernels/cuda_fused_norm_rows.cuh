#pragma once

#include "trainer/kernels/cuda_fused_rows.cuh"

// Statistics and sums within rows, for the fused passes with a layer norm.
namespace sluice::kernels::launch::rows {

template <int kRows>
__device__ void fetch_statistics(float2 (&to)[kRows], const float* from, int row, const Shape& shape) {
#pragma unroll
  for (int r = 0; r < kRows; ++r)
    to[r] = row + r < shape.rows ? __ldg(reinterpret_cast<const float2*>(from) + row + r) : float2{0, 0};
}

template <int kParts, typename T>
__device__ void fetch_vector(Eight (&to)[kParts], const void* from, const Seat<kParts>& seat) {
#pragma unroll
  for (int part = 0; part < kParts; ++part)
    to[part] =
        values(fetch(static_cast<const T*>(from) + seat.column[part], from != nullptr && seat.taken[part]));
}

/// Mean and 1 / deviation of each row. A warp takes its own mean and the squares about it; those of a row's
/// warps then merge without cancellation (Chan, Golub and LeVeque 1979).
template <typename S, int kRows>
class RowStatistics {
 public:
  __device__ RowStatistics(const Shape& shape, const Seat<S::kParts>& seat, float eps)
      : seat_(seat),
        warps_(shape.warps),
        share_(1.0F / static_cast<float>(shape.width)),
        eps_(eps),
        columns_(static_cast<float>(columns_of_warp<S::kParts>(shape, seat.lane % kLanes))),
        own_share_(1.0F / static_cast<float>(
                              columns_of_warp<S::kParts>(shape, seat.warp - seat.group * shape.warps))) {}

  /// Values of columns that are not taken are zero.
  __device__ void take(const Eight (&v)[kRows][S::kParts], float2 (*exchange)[kRows], float2 (&out)[kRows]) {
    float sum[kRows];
    float squares[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      sum[r] = 0;
#pragma unroll
      for (int part = 0; part < S::kParts; ++part)
#pragma unroll
        for (int i = 0; i < kVector; ++i) sum[r] += v[r][part].at[i];
    }
    const float all = joint_sum<kRows>(sum, seat_.lane);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float mean = __shfl_sync(kAll, all, r * kLanes) * own_share_;
      squares[r] = 0;
#pragma unroll
      for (int part = 0; part < S::kParts; ++part) {
        float here = 0;
#pragma unroll
        for (int i = 0; i < kVector; ++i) {
          const float off = v[r][part].at[i] - mean;
          here = fmaf(off, off, here);
        }
        squares[r] += seat_.taken[part] ? here : 0.0F;
      }
    }
    const float about = joint_sum<kRows>(squares, seat_.lane);
    if (seat_.lane % kLanes == 0) exchange[seat_.warp][seat_.lane / kLanes] = {all, about};
    __syncthreads();
    merge(exchange, out);
  }

 private:
  static constexpr int kLanes = kWarp / kRows;  // of each row

  /// Lane kLanes * row + i takes what warp i left of that row.
  __device__ void merge(float2 (*exchange)[kRows], float2 (&out)[kRows]) {
    const int other = seat_.lane % kLanes;
    const bool there = other < warps_;
    const float2 left = there ? exchange[seat_.group * warps_ + other][seat_.lane / kLanes] : float2{0, 0};
    const float mean = span_sum<S::kSpan>(left.x) * share_;
    const float off = there ? left.x / columns_ - mean : 0.0F;
    const float squares = span_sum<S::kSpan>(fmaf(off * off, columns_, left.y));
    const float scale = rsqrtf(fmaf(squares, share_, eps_));
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      out[r] = {__shfl_sync(kAll, mean, r * kLanes), __shfl_sync(kAll, scale, r * kLanes)};
  }

  const Seat<S::kParts>& seat_;
  int warps_;
  float share_;
  float eps_;
  float columns_;    // of warp lane % kLanes
  float own_share_;  // 1 / columns of this thread's warp
};

/// For each row the sums of its two values over the row's threads; own: 2 for each row.
template <typename S, int kRows>
__device__ void row_sums(float (&own)[2 * kRows], float2 (*exchange)[kRows], const Shape& shape,
                         const Seat<S::kParts>& seat, float2 (&out)[kRows]) {
  constexpr int kLanes = kWarp / kRows;
  const float all = joint_sum<2 * kRows>(own, seat.lane);
  if (seat.lane % (kLanes / 2) == 0)
    reinterpret_cast<float*>(exchange[seat.warp])[seat.lane / (kLanes / 2)] = all;
  __syncthreads();
  const int other = seat.lane % kLanes;
  const float2 left =
      other < shape.warps ? exchange[seat.group * shape.warps + other][seat.lane / kLanes] : float2{0, 0};
  const float first = span_sum<S::kSpan>(left.x);
  const float second = span_sum<S::kSpan>(left.y);
#pragma unroll
  for (int r = 0; r < kRows; ++r)
    out[r] = {__shfl_sync(kAll, first, r * kLanes), __shfl_sync(kAll, second, r * kLanes)};
}

/// To y, and to `again` unless it is null.
template <typename C, int kParts>
__device__ void put_normed(C* y, C* again, const Eight (&v)[kParts], const float2& statistics,
                           const Eight (&weight)[kParts], const Eight (&bias)[kParts],
                           const Seat<kParts>& seat) {
  const float shift = -statistics.x * statistics.y;
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    Eight out;
#pragma unroll
    for (int i = 0; i < kVector; ++i)
      out.at[i] = fmaf(fmaf(v[part].at[i], statistics.y, shift), weight[part].at[i], bias[part].at[i]);
    if (seat.taken[part]) put(y + seat.column[part], out);
    if (again != nullptr && seat.taken[part]) put(again + seat.column[part], out);
  }
}

}  // namespace sluice::kernels::launch::rows
