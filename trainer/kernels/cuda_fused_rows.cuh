#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <type_traits>

#include "trainer/kernels/cuda_fused_launch.h"
#include "trainer/kernels/gelu.h"

// How the fused passes go over a matrix. A thread has the same eight (or twice eight) columns of every row
// that its block sees, so that sums over rows stay in registers; the warps of a row form a group; a block
// takes kRows rows for each of its groups at a time. Which rows a block sees, and the order of every sum,
// depend on the shape alone.
namespace sluice::kernels::launch::rows {

constexpr int kWarp = 32;
constexpr int kVector = 8;
constexpr unsigned kAll = 0xffffffffu;
constexpr int kProcessors =
    132;  // that a grid is cut for; on a GPU of another count it only runs less evenly

/// Threads of a block at most, blocks that one processor holds, vectors of a thread.
template <int kThreadsMost, int kResidentBlocks, int kVectors>
struct Size {
  static constexpr int kThreads = kThreadsMost;
  static constexpr int kBlocks = kResidentBlocks;
  static constexpr int kParts = kVectors;
  static constexpr int kSpan = kThreadsMost > 256 ? 16 : 8;  // a power of two, at least the warps of a row
  static constexpr bool kAhead = kVectors == 1;  // the next rows are fetched while these are worked on
  static constexpr bool kHolds = kVectors == 1;  // a norm's weight, in registers, where it fits
};

struct Shape {
  int rows;
  int width;
  int warps;   // of a row
  int groups;  // of a block
};

template <typename S>
Shape shape_of(std::int64_t rows, std::int64_t width) {
  const int warps = fused_warps(width);
  return {static_cast<int>(rows), static_cast<int>(width), warps, std::max(1, S::kThreads / kWarp / warps)};
}

template <typename S>
int blocks_of(const Shape& shape, int rows_at_once) {
  const int step = shape.groups * rows_at_once;
  return std::min(kProcessors * S::kBlocks, (shape.rows + step - 1) / step);
}

inline int threads_of(const Shape& shape) { return shape.groups * shape.warps * kWarp; }

/// Calls run with the Size for a width.
template <typename Run>
void for_width(std::int64_t width, const Run& run) {
  const int warps = fused_warps(width);
  if (width > kFusedWidth / 2) return run(Size<512, 1, 2>{});
  if (warps > 8) return run(Size<512, 1, 1>{});
  if (warps > 6 || warps == 4) return run(Size<256, 2, 1>{});
  run(Size<192, 3, 1>{});
}

/// Calls run with an element of the type.
template <typename Run>
void for_compute(Precision compute, const Run& run) {
  if (compute == Precision::kFloat) return run(float{});
  run(__nv_bfloat16{});
}

/// Eight neighbouring elements, as they lie in memory.
template <typename T>
struct Raw;
template <>
struct Raw<__nv_bfloat16> {
  uint4 bits;
};
template <>
struct Raw<float> {
  float4 low, high;
};
struct Eight {
  float at[kVector];
};

__device__ inline Raw<__nv_bfloat16> fetch(const __nv_bfloat16* from, bool wanted) {
  return {wanted ? __ldg(reinterpret_cast<const uint4*>(from)) : uint4{0, 0, 0, 0}};
}
__device__ inline Raw<float> fetch(const float* from, bool wanted) {
  if (!wanted) return {{0, 0, 0, 0}, {0, 0, 0, 0}};
  return {__ldg(reinterpret_cast<const float4*>(from)), __ldg(reinterpret_cast<const float4*>(from) + 1)};
}

__device__ inline Eight values(const Raw<__nv_bfloat16>& raw) {
  const unsigned words[4] = {raw.bits.x, raw.bits.y, raw.bits.z, raw.bits.w};
  Eight out;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    out.at[2 * i] = __uint_as_float(words[i] << 16);
    out.at[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
  return out;
}
__device__ inline Eight values(const Raw<float>& raw) {
  return {raw.low.x, raw.low.y, raw.low.z, raw.low.w, raw.high.x, raw.high.y, raw.high.z, raw.high.w};
}

__device__ inline void put(__nv_bfloat16* to, const Eight& v) {
  unsigned words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(v.at[2 * i], v.at[2 * i + 1]);
    words[i] = *reinterpret_cast<const unsigned*>(&pair);
  }
  *reinterpret_cast<uint4*>(to) = {words[0], words[1], words[2], words[3]};
}
__device__ inline void put(float* to, const Eight& v) {
  reinterpret_cast<float4*>(to)[0] = {v.at[0], v.at[1], v.at[2], v.at[3]};
  reinterpret_cast<float4*>(to)[1] = {v.at[4], v.at[5], v.at[6], v.at[7]};
}

/// As T holds it.
template <typename T>
__device__ float rounded(float value) {
  if constexpr (std::is_same_v<T, float>) return value;
  return __bfloat162float(__float2bfloat16_rn(value));
}

template <typename T>
__device__ Gelu gelu(float x) {
  if constexpr (std::is_same_v<T, float>) return gelu_exact(x);
  return gelu_fast(x);
}

/// Which rows and columns a thread has.
template <int kParts>
struct Seat {
  int lane;
  int warp;   // of the block
  int group;  // of the block
  int column[kParts];
  bool taken[kParts];  // the last lanes of a row may have no columns
  bool first;          // of its group

  __device__ explicit Seat(const Shape& shape) {
    const int of_row = shape.warps * kWarp;
    const int thread = static_cast<int>(threadIdx.x);
    lane = thread % kWarp;
    warp = thread / kWarp;
    group = warp / shape.warps;
    const int place = thread - group * of_row;
    first = place == 0;
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      column[part] = (part * of_row + place) * kVector;
      taken[part] = column[part] < shape.width;
    }
  }
};

/// Rows [row, row + kRows); what is not there is zero.
template <int kRows, int kParts, typename T>
__device__ void fetch_rows(Raw<T> (&to)[kRows][kParts], const T* from, std::int64_t stride, int row,
                           const Shape& shape, const Seat<kParts>& seat) {
#pragma unroll
  for (int r = 0; r < kRows; ++r)
#pragma unroll
    for (int part = 0; part < kParts; ++part)
      to[r][part] = fetch(from + (row + r) * stride + seat.column[part],
                          from != nullptr && row + r < shape.rows && seat.taken[part]);
}

/// Columns that one warp of a row has.
template <int kParts>
__device__ int columns_of_warp(const Shape& shape, int warp) {
  int columns = 0;
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    const int begin = (part * shape.warps + warp) * kWarp * kVector;
    columns += min(max(shape.width - begin, 0), kWarp * kVector);
  }
  return columns;
}

/// Sums over a warp's lanes of kCount values (a power of two) at once: a lane gets that of value
/// lane * kCount / 32, for every step halves the values that a lane still has to add.
template <int kCount>
__device__ float joint_sum(float (&value)[kCount], int lane) {
  int offset = kWarp / 2;
#pragma unroll
  for (int half = kCount / 2; half > 0; half /= 2) {
    const bool upper = (lane & offset) != 0;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const float given = upper ? value[i] : value[i + half];
      const float kept = upper ? value[i + half] : value[i];
      value[i] = kept + __shfl_xor_sync(kAll, given, offset);
    }
    offset /= 2;
  }
#pragma unroll
  for (int step = kWarp / 2 / kCount; step > 0; step /= 2) value[0] += __shfl_xor_sync(kAll, value[0], step);
  return value[0];
}

/// The sum over the kSpan lanes that share lane / kSpan.
template <int kSpan>
__device__ float span_sum(float value) {
#pragma unroll
  for (int offset = kSpan / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(kAll, value, offset);
  return value;
}

/// What the warps of a row tell each other, in turns of two: one barrier for each group of rows is enough.
template <typename S, int kRows>
struct Exchange {
  float2 at[2][S::kThreads / kWarp][kRows];
};

/// What thread blocks leave of a sum over rows: those of its groups in shared memory, then [blocks, width].
template <typename S>
struct Leaver {
  float at[S::kThreads > 256 ? 1 : S::kThreads][kVector];  // blocks of more threads have one group

  __device__ void leave(float (&sum)[S::kParts][kVector], float* partials, const Seat<S::kParts>& seat,
                        const Shape& shape) {
    if constexpr (S::kThreads <= 256) {
      if (shape.groups > 1) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < kVector; ++i) at[threadIdx.x][i] = sum[0][i];
        __syncthreads();
        if (seat.group == 0)
          for (int group = 1; group < shape.groups; ++group)
#pragma unroll
            for (int i = 0; i < kVector; ++i) sum[0][i] += at[group * shape.warps * kWarp + threadIdx.x][i];
      }
    }
    if (seat.group != 0) return;
#pragma unroll
    for (int part = 0; part < S::kParts; ++part) {
      if (!seat.taken[part]) continue;
      Eight out;
#pragma unroll
      for (int i = 0; i < kVector; ++i) out.at[i] = sum[part][i];
      put(partials + static_cast<std::int64_t>(blockIdx.x) * shape.width + seat.column[part], out);
    }
  }
};

}  // namespace sluice::kernels::launch::rows
