#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <algorithm>

#include "trainer/kernels/cuda_check.cuh"
#include "trainer/kernels/cuda_fp8_launch.h"

namespace sluice::kernels::launch {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr int kTile = 64;  // rows and columns of a transposed tile

__device__ unsigned larger_halves(unsigned a, unsigned b) { return __vmaxu2(a, b & 0x7fff7fffu); }

__device__ unsigned block_max(unsigned value) {
  __shared__ unsigned shared[kThreads / kWarp];
  value = __reduce_max_sync(0xffffffffu, value);
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = value;
  __syncthreads();
  unsigned all = 0;
#pragma unroll
  for (int warp = 0; warp < kThreads / kWarp; ++warp) all = max(all, shared[warp]);
  return all;
}

/// Non-negative numbers compare like their bits.
__global__ void __launch_bounds__(kThreads)
    largest_kernel(const uint4* x, std::int64_t vectors, unsigned* partials) {
  unsigned pairs = 0;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
#pragma unroll 4
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < vectors;
       i += stride) {
    const uint4 v = __ldg(x + i);
    pairs = larger_halves(larger_halves(larger_halves(larger_halves(pairs, v.x), v.y), v.z), v.w);
  }
  const unsigned largest = block_max(max(pairs >> 16, pairs & 0xffffu));
  if (threadIdx.x == 0) partials[blockIdx.x] = largest;
}

/// What to multiply by, and its inverse.
struct Scale {
  float factor;
  float unit;
};

template <Fp8 kFormat>
__device__ Scale scale_of(const unsigned* partials) {
  constexpr float kMost = kFormat == Fp8::kE4m3 ? 448.0F : 57344.0F;
  constexpr int kFurthest = 126;
  unsigned mine = 0;
  for (int i = static_cast<int>(threadIdx.x); i < kFp8Partials; i += kThreads) mine = max(mine, partials[i]);
  const float largest = __uint_as_float(block_max(mine) << 16);
  if (!isfinite(largest)) return {NAN, NAN};
  if (largest == 0) return {1, 1};
  const int exponent = max(-kFurthest, min(kFurthest, ilogbf(kMost / largest)));
  return {ldexpf(1, exponent), ldexpf(1, -exponent)};
}

template <Fp8 kFormat>
__device__ unsigned pack(unsigned low, unsigned high, float factor) {
  constexpr __nv_fp8_interpretation_t kType = kFormat == Fp8::kE4m3 ? __NV_E4M3 : __NV_E5M2;
  const auto two = [factor](unsigned pair) -> unsigned {
    const float2 v = {__uint_as_float(pair << 16) * factor, __uint_as_float(pair & 0xffff0000u) * factor};
    return __nv_cvt_float2_to_fp8x2(v, __NV_SATFINITE, kType);
  };
  return two(low) | two(high) << 16;
}

template <Fp8 kFormat>
__global__ void __launch_bounds__(kThreads)
    quantise_kernel(const uint4* x, std::int64_t vectors, const unsigned* partials, uint4* to, float* unit) {
  const Scale scale = scale_of<kFormat>(partials);
  if (blockIdx.x == 0 && threadIdx.x == 0) *unit = scale.unit;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
#pragma unroll 2
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < vectors;
       i += stride) {
    const uint4 a = __ldg(x + 2 * i);
    const uint4 b = __ldg(x + 2 * i + 1);
    to[i] = {pack<kFormat>(a.x, a.y, scale.factor), pack<kFormat>(a.z, a.w, scale.factor),
             pack<kFormat>(b.x, b.y, scale.factor), pack<kFormat>(b.z, b.w, scale.factor)};
  }
}

__global__ void __launch_bounds__(kThreads)
    transpose_kernel(const __nv_bfloat16* x, int rows, int columns, const unsigned* partials,
                     __nv_fp8_storage_t* to, float* unit) {
  __shared__ __nv_fp8_storage_t tile[kTile][kTile + 4];  // [column][row]
  const Scale scale = scale_of<Fp8::kE4m3>(partials);
  if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) *unit = scale.unit;
  const int row0 = static_cast<int>(blockIdx.y) * kTile;
  const int column0 = static_cast<int>(blockIdx.x) * kTile;
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kTile; i += kThreads) {
    const int row = row0 + i / kTile;
    const int column = column0 + i % kTile;
    if (row < rows && column < columns)
      tile[i % kTile][i / kTile] = __nv_cvt_float_to_fp8(
          __bfloat162float(x[static_cast<std::int64_t>(row) * columns + column]) * scale.factor,
          __NV_SATFINITE, __NV_E4M3);
  }
  __syncthreads();
  constexpr int kWord = 4;
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kTile / kWord; i += kThreads) {
    const int column = column0 + i / (kTile / kWord);
    const int row = row0 + i % (kTile / kWord) * kWord;
    if (row < rows && column < columns)
      *reinterpret_cast<unsigned*>(to + static_cast<std::int64_t>(column) * rows + row) =
          *reinterpret_cast<const unsigned*>(&tile[column - column0][row - row0]);
  }
}

}  // namespace

void largest_magnitudes(const void* x, std::int64_t elements, unsigned* partials, cudaStream_t stream) {
  largest_kernel<<<kFp8Partials, kThreads, 0, stream>>>(static_cast<const uint4*>(x), elements / 8, partials);
  check_launch("largest_magnitudes");
}

void quantise(const void* x, std::int64_t elements, const unsigned* partials, Fp8 format, void* to,
              float* unit, cudaStream_t stream) {
  constexpr std::int64_t kBlocks = 132 * 8;
  const std::int64_t vectors = elements / kFp8Elements;
  const auto blocks = static_cast<unsigned>(std::min(kBlocks, (vectors + kThreads - 1) / kThreads));
  const auto run = [&](auto kernel) {
    kernel<<<blocks, kThreads, 0, stream>>>(static_cast<const uint4*>(x), vectors, partials,
                                            static_cast<uint4*>(to), unit);
  };
  format == Fp8::kE4m3 ? run(quantise_kernel<Fp8::kE4m3>) : run(quantise_kernel<Fp8::kE5m2>);
  check_launch("quantise");
}

void quantise_transposed(const void* x, std::int64_t rows, std::int64_t columns, const unsigned* partials,
                         void* to, float* unit, cudaStream_t stream) {
  const auto tiles = [](std::int64_t size) { return static_cast<unsigned>((size + kTile - 1) / kTile); };
  transpose_kernel<<<dim3(tiles(columns), tiles(rows)), kThreads, 0, stream>>>(
      static_cast<const __nv_bfloat16*>(x), static_cast<int>(rows), static_cast<int>(columns), partials,
      static_cast<__nv_fp8_storage_t*>(to), unit);
  check_launch("quantise_transposed");
}

}  // namespace sluice::kernels::launch
