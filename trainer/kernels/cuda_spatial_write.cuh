#pragma once

#include "trainer/kernels/cuda_spatial_tiles.cuh"
#include "trainer/kernels/gelu.h"

// How a tile of sums goes from registers to memory.
namespace sluice::kernels::launch::spatial {

__device__ inline unsigned pack(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const unsigned*>(&both);
}
__device__ inline float2 unpack(unsigned both) {
  return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&both));
}

/// Four lanes that hold two columns each of four groups of eight -> each lane all eight columns of one group:
/// lane t's result k is lane k's value t.
__device__ inline uint4 gather_columns(const unsigned (&mine)[4], int lane) {
  const bool odd = lane & 1;
  const bool upper = lane & 2;
  unsigned half[2]
               [2];  // [group / 2][source lane's lowest bit], of the groups whose lowest bit is this lane's
#pragma unroll
  for (int pair = 0; pair < 2; ++pair) {
    const unsigned kept = odd ? mine[2 * pair + 1] : mine[2 * pair];
    const unsigned got = __shfl_xor_sync(0xffffffffu, odd ? mine[2 * pair] : mine[2 * pair + 1], 1);
    half[pair][0] = odd ? got : kept;
    half[pair][1] = odd ? kept : got;
  }
  unsigned low[2];
  unsigned high[2];
#pragma unroll
  for (int bit = 0; bit < 2; ++bit) {
    const unsigned kept = upper ? half[1][bit] : half[0][bit];
    const unsigned got = __shfl_xor_sync(0xffffffffu, upper ? half[0][bit] : half[1][bit], 2);
    low[bit] = upper ? got : kept;
    high[bit] = upper ? kept : got;
  }
  return {low[0], low[1], high[0], high[1]};
}

/// Where a stage holds eight columns of a companion (has_companion): rows of 128 bytes, swizzled, 64 columns
/// a box.
__device__ inline const char* companion_columns(const char* stage, int row, int column) {
  const int swizzled = (column % 64 / 8) ^ (row % 8);
  return stage + column / 64 * 2 * kBox + row * 128 + swizzled * 16;
}
__device__ inline unsigned companion_pair(const char* stage, int row, int column) {
  return *reinterpret_cast<const unsigned*>(companion_columns(stage, row, column) + column % 8 * 2);
}

__device__ inline unsigned gated(unsigned bypass, unsigned mixed) {
  const float2 u = unpack(bypass);
  const float2 s = unpack(mixed);
  return pack(gelu_fast(u.x).value * s.x, gelu_fast(u.y).value * s.y);
}

/// Whether bias and gate follow a tile's sums.
template <Parts kParts>
__device__ bool is_gated(const Work& work) {
  return kParts != Parts::kSums || work.sum == Sum::kWhole || work.sum == Sum::kLast;
}

/// Where sums of a row that is added to stand, or null.
template <Kind kKind, Parts kParts>
__device__ const __nv_bfloat16* summed_row(const Problem& p, const Work& work, int row) {
  if (kKind != Kind::kForward || kParts != Parts::kSums) return nullptr;
  if (work.sum == Sum::kWhole || work.sum == Sum::kFirst) return nullptr;
  return p.mixed + (static_cast<std::int64_t>(work.batch) * p.out_rows + row) * p.width;
}

/// Whether stages of their own bring what a tile's sums are written with: the bypass, or what is added.
template <Kind kKind, Parts kParts>
__device__ bool has_companion(const Work& work) {
  if (kKind == Kind::kInput) return kParts == Parts::kSums;
  return kKind == Kind::kForward && is_gated<kParts>(work);
}

/// Writes 128 columns of the tile from `first_column` on, eight a thread at a time. kForward adds the bias
/// first and gates by the bypass in `stage`, if is_gated(); kInput adds what is in `stage`, if there is.
template <Kind kKind, int kColumns, Parts kParts>
__device__ void write_product(const float (&sum)[kColumns / 2], int first_column, const Problem& p,
                              const Work& work, int row_of_tile, const char* stage) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int below = 0; below < 2; ++below) {
    const int local_row = row_of_tile + lane / 4 + 8 * below;
    const int row = work.row + local_row;
    const bool inside = row < work.row_end;
    const bool gates = kKind == Kind::kForward && is_gated<kParts>(work);
    const float shift = gates && inside ? __bfloat162float(p.bias[work.position + local_row]) : 0.0f;
    const __nv_bfloat16* const summed = inside ? summed_row<kKind, kParts>(p, work, row) : nullptr;
    const std::int64_t of_all = static_cast<std::int64_t>(work.column_outer + work.batch) * p.out_rows + row;
#pragma unroll
    for (int group = 0; group < 128 / 32; ++group) {
      unsigned mine[4];
#pragma unroll
      for (int part = 0; part < 4; ++part) {
        const int at = (first_column / 8 + group * 4 + part) * 4 + 2 * below;
        float2 more = {shift, shift};
        const int local_column = (group * 4 + part) * 8 + lane % 4 * 2;
        const int column = work.column + first_column + local_column;
        if (kKind == Kind::kInput && kParts == Parts::kSums) {
          more = unpack(companion_pair(stage, local_row, local_column));
        } else if (summed != nullptr && column < p.width) {
          const float2 before = unpack(*reinterpret_cast<const unsigned*>(summed + column));
          more = {before.x + shift, before.y + shift};
        }
        mine[part] = pack(sum[at] + more.x, sum[at + 1] + more.y);
      }
      const uint4 columns = gather_columns(mine, lane);
      const int local_column = group * 32 + lane % 4 * 8;
      const int column = work.column + first_column + local_column;
      if (!inside || column >= p.width) continue;
      const std::int64_t to = of_all * p.width + column;
      if (gates) {
        const auto u = *reinterpret_cast<const uint4*>(companion_columns(stage, local_row, local_column));
        if (p.mixed != nullptr) *reinterpret_cast<uint4*>(p.mixed + to) = columns;
        *reinterpret_cast<uint4*>(p.out + to) = {gated(u.x, columns.x), gated(u.y, columns.y),
                                                 gated(u.z, columns.z), gated(u.w, columns.w)};
      } else {
        *reinterpret_cast<uint4*>((kKind == Kind::kForward ? p.mixed : p.out) + to) = columns;
      }
    }
  }
}

/// To where nobody else writes, so that sums are the same on every run; adding does not wait for what is
/// there. What is written over nothing has the bits of a sum with zero.
__device__ inline void put(const Problem& p, float* to, float value) {
  if (p.writes_over)
    *to = 0.0f + value;
  else
    atomicAdd(to, value);
}
__device__ inline void put(const Problem& p, float* to, float2 values) {
  if (p.writes_over)
    *reinterpret_cast<float2*>(to) = {0.0f + values.x, 0.0f + values.y};
  else
    atomicAdd(reinterpret_cast<float2*>(to), values);
}

/// Where the sum of a tile's element is.
__device__ inline float* weight_sum(const Problem& p, const Work& work, int row, int column) {
  return p.sum + (work.row + row) * p.sum_stride + (work.column + column);
}
/// Columns of a tile's row that there are, from `column` on.
__device__ inline int columns_left(const Problem& p, const Work& work, int row, int column) {
  if (work.row + row >= work.row_end) return 0;
  const int end = p.lower ? min(work.column_end, work.position + row + 1) : work.column_end;
  return end - (work.column + column);
}

template <int kColumns>
__device__ void write_weight(const float (&sum)[kColumns / 2], const Problem& p, const Work& work, int tile,
                             int row_of_tile) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int column = lane % 4 * 2;
#pragma unroll
  for (int below = 0; below < 2; ++below) {
    const int row = row_of_tile + lane / 4 + 8 * below;
    float* const part = p.partials + (static_cast<std::int64_t>(tile) * kRows + row) * kColumns + column;
    float* const whole = weight_sum(p, work, row, column);
    const int left = columns_left(p, work, row, column);
#pragma unroll
    for (int group = 0; group < kColumns / 8; ++group) {
      const float2 values = {sum[group * 4 + 2 * below], sum[group * 4 + 2 * below + 1]};
      if (p.splits > 1)
        *reinterpret_cast<float2*>(part + group * 8) = values;
      else if (group * 8 + 1 < left)
        put(p, whole + group * 8, values);
      else if (group * 8 < left)
        put(p, whole + group * 8, values.x);
    }
  }
}

}  // namespace sluice::kernels::launch::spatial
