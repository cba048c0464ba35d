#include <cuda_bf16.h>

#include <algorithm>
#include <bit>
#include <cub/device/device_radix_sort.cuh>

#include "trainer/kernels/cuda_check.cuh"
#include "trainer/kernels/cuda_head_launch.h"

namespace sluice::kernels::launch {
namespace {

constexpr int kThreads = 256;
constexpr int kPieceRows = static_cast<int>(kSortedRows);

unsigned blocks_for(std::int64_t elements) {
  return static_cast<unsigned>((elements + kThreads - 1) / kThreads);
}
int bits_of(std::int64_t vocabulary) {
  return std::max(1, static_cast<int>(std::bit_width(static_cast<std::uint64_t>(vocabulary - 1))));
}

__device__ float4 read(const float* from) { return *reinterpret_cast<const float4*>(from); }
__device__ float4 read(const __nv_bfloat16* from) {
  const auto pairs = *reinterpret_cast<const uint2*>(from);
  const float2 low = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&pairs.x));
  const float2 high = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&pairs.y));
  return {low.x, low.y, high.x, high.y};
}
__device__ void write(float* to, const float4& value) { *reinterpret_cast<float4*>(to) = value; }
__device__ void write(__nv_bfloat16* to, const float4& value) {
  const __nv_bfloat162 low = __floats2bfloat162_rn(value.x, value.y);
  const __nv_bfloat162 high = __floats2bfloat162_rn(value.z, value.w);
  *reinterpret_cast<uint2*>(to) = {*reinterpret_cast<const unsigned*>(&low),
                                   *reinterpret_cast<const unsigned*>(&high)};
}
__device__ float4 operator+(const float4& a, const float4& b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}

__global__ void __launch_bounds__(kThreads) number_rows(SortTokens a) {
  const int row = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (row >= a.rows) return;
  a.pairs[row] = static_cast<std::int32_t>(a.tokens[row]);
  a.pairs[a.rows + row] = row;
}

/// Rows [first, end) of the sorted order, which one block adds up.
struct Piece {
  int first;
  int end;
};
__device__ Piece piece_of(std::int64_t index, std::int64_t rows) {
  const auto first = static_cast<int>(index * kPieceRows);
  return {first, min(first + kPieceRows, static_cast<int>(rows))};
}

/// A run of equal tokens that lies within the piece goes into the sum; one that began before it is left as
/// its first partial, one that began here and goes on as its second.
template <typename C>
__global__ void __launch_bounds__(kThreads) sum_pieces(EmbeddingGradient a) {
  __shared__ int tokens[kPieceRows + 2];
  __shared__ int rows[kPieceRows];
  const Piece piece = piece_of(blockIdx.x, a.rows);
  const std::int32_t* const sorted = a.sorted;
  const int count = piece.end - piece.first;
  for (int i = static_cast<int>(threadIdx.x); i < count + 2; i += kThreads) {
    const int at = piece.first + i - 1;
    tokens[i] = at >= 0 && at < a.rows ? sorted[at] : -1;
    if (i > 0 && i <= count) rows[i - 1] = sorted[a.rows + at];
  }
  __syncthreads();
  const auto* const gradient = static_cast<const C*>(a.gradient);
  float* const partials = a.partials + static_cast<std::int64_t>(blockIdx.x) * 2 * a.width;
  for (int column = static_cast<int>(threadIdx.x) * 4; column < a.width; column += kThreads * 4) {
    float4 sum = {0, 0, 0, 0};
    bool began_before = tokens[0] == tokens[1];
    float4 next = read(gradient + rows[0] * a.width + column);
    for (int i = 0; i < count; ++i) {
      const float4 value = next;
      if (i + 1 < count) next = read(gradient + rows[i + 1] * a.width + column);
      sum = sum + value;
      if (i + 1 < count && tokens[i + 2] == tokens[i + 1]) continue;
      const bool goes_on = tokens[i + 2] == tokens[i + 1];
      if (began_before || goes_on) {
        write(partials + (began_before ? 0 : a.width) + column, sum);
      } else {
        float* const to = a.sum + tokens[i + 1] * a.width + column;
        write(to, read(to) + sum);
      }
      sum = {0, 0, 0, 0};
      began_before = false;
    }
  }
}

/// Each run that goes beyond the piece in which it began: its second partial and the first ones of those that
/// follow, in order.
__global__ void __launch_bounds__(kThreads) sum_runs(EmbeddingGradient a) {
  const Piece piece = piece_of(blockIdx.x, a.rows);
  if (piece.end == a.rows) return;
  const std::int32_t* const sorted = a.sorted;
  const int token = sorted[piece.end - 1];
  const bool began_here = piece.first == 0 || sorted[piece.first - 1] != token;
  if (sorted[piece.end] != token || !began_here) return;
  const auto pieces = static_cast<std::int64_t>(gridDim.x);
  for (int column = static_cast<int>(threadIdx.x) * 4; column < a.width; column += kThreads * 4) {
    const float* from = a.partials + static_cast<std::int64_t>(blockIdx.x) * 2 * a.width + column;
    float4 sum = read(from + a.width);
    for (std::int64_t next = blockIdx.x + 1; next < pieces && sorted[piece_of(next, a.rows).first] == token;
         ++next)
      sum = sum + read(from + (next - blockIdx.x) * 2 * a.width);
    float* const to = a.sum + token * a.width + column;
    write(to, read(to) + sum);
  }
}

__global__ void __launch_bounds__(kThreads) scaled_kernel(Scaled a) {
  const std::int64_t at = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * 4;
  if (at >= a.elements) return;
  const float scale = *a.scale;
  float4 value = read(a.values + at);
  value = {value.x * scale, value.y * scale, value.z * scale, value.w * scale};
  if (a.sum == nullptr) {
    write(static_cast<__nv_bfloat16*>(a.rounded) + at, value);
  } else {
    write(a.sum + at, a.writes_over ? value : read(a.sum + at) + value);
  }
}

cudaError_t sort(const SortTokens& a, std::size_t& bytes, cudaStream_t stream) {
  return cub::DeviceRadixSort::SortPairs(a.workspace, bytes, a.pairs, a.pairs + 2 * a.rows, a.pairs + a.rows,
                                         a.pairs + 3 * a.rows, static_cast<int>(a.rows), 0,
                                         bits_of(a.vocabulary), stream);
}

}  // namespace

std::int64_t embedding_workspace(std::int64_t rows, std::int64_t vocabulary) {
  SortTokens sizes{};
  sizes.rows = rows;
  sizes.vocabulary = vocabulary;
  std::size_t bytes = 0;
  check_cuda(sort(sizes, bytes, nullptr), "cub::DeviceRadixSort");
  return static_cast<std::int64_t>(bytes);
}

void sort_tokens(const SortTokens& a, cudaStream_t stream) {
  if (a.rows == 0) return;
  number_rows<<<blocks_for(a.rows), kThreads, 0, stream>>>(a);
  std::size_t bytes = a.workspace_bytes;
  check_cuda(sort(a, bytes, stream), "cub::DeviceRadixSort");
  check_launch("sort_tokens");
}

void add_embedding_gradient(const EmbeddingGradient& a, Precision precision, cudaStream_t stream) {
  if (a.rows == 0) return;
  const auto pieces = static_cast<unsigned>((a.rows + kSortedRows - 1) / kSortedRows);
  if (precision == Precision::kFloat) {
    sum_pieces<float><<<pieces, kThreads, 0, stream>>>(a);
  } else {
    sum_pieces<__nv_bfloat16><<<pieces, kThreads, 0, stream>>>(a);
  }
  sum_runs<<<pieces, kThreads, 0, stream>>>(a);
  check_launch("add_embedding_gradient");
}

void scaled(const Scaled& a, cudaStream_t stream) {
  if (a.elements == 0) return;
  scaled_kernel<<<blocks_for(a.elements / 4), kThreads, 0, stream>>>(a);
  check_launch("scaled");
}

}  // namespace sluice::kernels::launch
