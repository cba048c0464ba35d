#include <cuda_bf16.h>

#include "trainer/kernels/cuda_check.cuh"
#include "trainer/kernels/cuda_launch.h"

// One warp computes a row, four neighbouring elements a lane at a time; sums within a row are a fixed tree
// over lanes, sums over rows a fixed order of rows within a warp, then of warps, then of blocks: the same
// bits on every run and every GPU.
namespace sluice::kernels::launch {
namespace {

constexpr int kWarp = 32;
constexpr int kVector = 4;
constexpr int kWarpsOfBlock = 4;
constexpr int kStride = kWarp * kVector;  // elements that a warp takes at once

__device__ float4 load(const float* from) { return *reinterpret_cast<const float4*>(from); }
__device__ float4 load(const __nv_bfloat16* from) {
  const uint2 bits = *reinterpret_cast<const uint2*>(from);
  const float2 low = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&bits.x));
  const float2 high = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&bits.y));
  return {low.x, low.y, high.x, high.y};
}
__device__ void store(float* to, const float4& v) { *reinterpret_cast<float4*>(to) = v; }
__device__ void store(__nv_bfloat16* to, const float4& v) {
  const __nv_bfloat162 low = __floats2bfloat162_rn(v.x, v.y);
  const __nv_bfloat162 high = __floats2bfloat162_rn(v.z, v.w);
  *reinterpret_cast<uint2*>(to) = {*reinterpret_cast<const unsigned*>(&low),
                                   *reinterpret_cast<const unsigned*>(&high)};
}
__device__ void store_one(float* to, float value) { *to = value; }
__device__ void store_one(__nv_bfloat16* to, float value) { *to = __float2bfloat16_rn(value); }

__device__ float4 operator+(const float4& a, const float4& b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}
__device__ float4 operator*(const float4& a, const float4& b) {
  return {a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w};
}
__device__ float4 operator*(const float4& a, float b) { return {a.x * b, a.y * b, a.z * b, a.w * b}; }
__device__ float4 operator+(const float4& a, float b) { return {a.x + b, a.y + b, a.z + b, a.w + b}; }
__device__ float total(const float4& a) { return (a.x + a.y) + (a.z + a.w); }

__device__ float over_lanes(float value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

template <typename In, typename Out, int kParts>
__global__ void norm_forward(const In* __restrict__ x, const Out* __restrict__ weight,
                             const Out* __restrict__ bias, Out* __restrict__ y,
                             float2* __restrict__ statistics, std::int64_t rows, float eps) {
  constexpr int kWidth = kParts * kStride;
  const int lane = static_cast<int>(threadIdx.x) % kWarp * kVector;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarpsOfBlock + threadIdx.x / kWarp;
  if (row >= rows) return;
  float4 values[kParts];
  float sum = 0;
  for (int part = 0; part < kParts; ++part) {
    values[part] = load(x + row * kWidth + part * kStride + lane);
    sum += total(values[part]);
  }
  const float mean = over_lanes(sum) / kWidth;
  float squares = 0;
  for (int part = 0; part < kParts; ++part) {
    values[part] = values[part] + -mean;
    squares += total(values[part] * values[part]);
  }
  const float scale = rsqrtf(over_lanes(squares) / kWidth + eps);
  for (int part = 0; part < kParts; ++part) {
    const int column = part * kStride + lane;
    store(y + row * kWidth + column, values[part] * scale * load(weight + column) + load(bias + column));
  }
  if (lane == 0) statistics[row] = {mean, scale};
}

/// With g = dy * weight and n = (x - mean) * scale: dx = scale * (g - mean(g) - n * mean(g * n)). Each block
/// also leaves its rows' sums of dy * n and dy in partials [block, 2, width].
template <typename In, typename Out, int kParts>
__global__ void __launch_bounds__(kWarp* kWarpsOfBlock)
    norm_backward(const Out* __restrict__ dy, const In* __restrict__ x, const Out* __restrict__ weight,
                  const float2* __restrict__ statistics, In* __restrict__ dx, float* __restrict__ partials,
                  std::int64_t rows) {
  constexpr int kWidth = kParts * kStride;
  const int lane = static_cast<int>(threadIdx.x) % kWarp * kVector;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  float4 of_weight[kParts] = {};
  float4 of_bias[kParts] = {};
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarpsOfBlock + warp; row < rows;
       row += static_cast<std::int64_t>(gridDim.x) * kWarpsOfBlock) {
    const float2 known = statistics[row];
    float4 normed[kParts];
    float4 inner[kParts];
    float sum = 0;
    float product = 0;
    for (int part = 0; part < kParts; ++part) {
      const int column = part * kStride + lane;
      normed[part] = (load(x + row * kWidth + column) + -known.x) * known.y;
      const float4 outer = load(dy + row * kWidth + column);
      of_weight[part] = of_weight[part] + outer * normed[part];
      of_bias[part] = of_bias[part] + outer;
      inner[part] = outer * load(weight + column);
      sum += total(inner[part]);
      product += total(inner[part] * normed[part]);
    }
    const float mean = over_lanes(sum) / kWidth;
    const float slope = over_lanes(product) / kWidth;
    for (int part = 0; part < kParts; ++part)
      store(dx + row * kWidth + part * kStride + lane,
            (inner[part] + -mean + normed[part] * -slope) * known.y);
  }
  __shared__ float shared[kWarpsOfBlock][kWidth];
  for (int which = 0; which < 2; ++which) {
    for (int part = 0; part < kParts; ++part)
      store(&shared[warp][part * kStride + lane], which == 0 ? of_weight[part] : of_bias[part]);
    __syncthreads();
    for (int column = static_cast<int>(threadIdx.x); column < kWidth; column += kWarp * kWarpsOfBlock) {
      float all = 0;
      for (int other = 0; other < kWarpsOfBlock; ++other) all += shared[other][column];
      partials[(static_cast<std::int64_t>(blockIdx.x) * 2 + which) * kWidth + column] = all;
    }
    __syncthreads();
  }
}

constexpr int kSegments = 16;  // of the partial sums, added up side by side

/// columns [count] = the sum over `rows` of partials [rows, count], for `count` columns.
template <typename Out>
__global__ void add_rows(const float* __restrict__ partials, Out* __restrict__ first,
                         Out* __restrict__ second, std::int64_t rows, std::int64_t width,
                         std::int64_t columns) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kWarp + threadIdx.x;
  float sum = 0;
  if (column < columns)
    for (std::int64_t row = threadIdx.y; row < rows; row += kSegments)
      sum += partials[row * columns + column];
  __shared__ float shared[kSegments][kWarp];
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  float all = 0;
  for (int segment = 0; segment < kSegments; ++segment) all += shared[segment][threadIdx.x];
  store_one(column < width ? first + column : second + (column - width), all);
}

template <typename Value>
__global__ void gate_forward(const Value* __restrict__ u, const Value* __restrict__ s,
                             const Value* __restrict__ bias, Value* __restrict__ z, std::int64_t rows,
                             std::int64_t positions, std::int64_t width) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarpsOfBlock + threadIdx.x / kWarp;
  if (row >= rows) return;
  const float shift = static_cast<float>(bias[row % positions]);
#pragma unroll 4
  for (std::int64_t column = threadIdx.x % kWarp * kVector; column < width; column += kStride) {
    const std::int64_t at = row * width + column;
    store(z + at, load(u + at) * (load(s + at) + shift));
  }
}

/// du = dz * (s + b), ds = dz * u, and the sum of each row's ds in partials [rows].
template <typename Value>
__global__ void gate_backward(const Value* __restrict__ dz, const Value* __restrict__ u,
                              const Value* __restrict__ s, const Value* __restrict__ bias,
                              Value* __restrict__ du, Value* __restrict__ ds, float* __restrict__ partials,
                              std::int64_t rows, std::int64_t positions, std::int64_t width) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarpsOfBlock + threadIdx.x / kWarp;
  if (row >= rows) return;
  const float shift = static_cast<float>(bias[row % positions]);
  float sum = 0;
#pragma unroll 4
  for (std::int64_t column = threadIdx.x % kWarp * kVector; column < width; column += kStride) {
    const std::int64_t at = row * width + column;
    const float4 outer = load(dz + at);
    const float4 inner = outer * load(u + at);
    store(du + at, outer * (load(s + at) + shift));
    store(ds + at, inner);
    sum += total(inner);
  }
  sum = over_lanes(sum);
  if (threadIdx.x % kWarp == 0) partials[row] = sum;
}

unsigned blocks_for(std::int64_t rows) {
  return static_cast<unsigned>((rows + kWarpsOfBlock - 1) / kWarpsOfBlock);
}

template <typename Out>
void sum_rows(const float* partials, Out* first, Out* second, std::int64_t rows, std::int64_t width,
              std::int64_t columns, cudaStream_t stream) {
  add_rows<<<static_cast<unsigned>((columns + kWarp - 1) / kWarp), dim3(kWarp, kSegments), 0, stream>>>(
      partials, first, second, rows, width, columns);
  check_launch("add_rows");
}

template <typename In, typename Out, int kParts>
void run_norm(const NormArguments& a, cudaStream_t stream) {
  constexpr int kThreads = kWarp * kWarpsOfBlock;
  const auto* x = static_cast<const In*>(a.x);
  const auto* weight = static_cast<const Out*>(a.weight);
  auto* statistics = reinterpret_cast<float2*>(a.statistics);
  if (a.dy == nullptr) {
    norm_forward<In, Out, kParts><<<blocks_for(a.rows), kThreads, 0, stream>>>(
        x, weight, static_cast<const Out*>(a.bias), static_cast<Out*>(a.y), statistics, a.rows, a.eps);
    check_launch("norm_forward");
    return;
  }
  norm_backward<In, Out, kParts><<<kNormBlocks, kThreads, 0, stream>>>(
      static_cast<const Out*>(a.dy), x, weight, statistics, static_cast<In*>(a.dx), a.partials, a.rows);
  check_launch("norm_backward");
  sum_rows(a.partials, static_cast<Out*>(a.dweight), static_cast<Out*>(a.dbias), kNormBlocks, a.width,
           2 * a.width, stream);
}

template <typename In, typename Out>
void run_norm_of_width(const NormArguments& a, cudaStream_t stream) {
  switch (a.width / kStride) {
    case 1:
      return run_norm<In, Out, 1>(a, stream);
    case 2:
      return run_norm<In, Out, 2>(a, stream);
    case 4:
      return run_norm<In, Out, 4>(a, stream);
    case 6:
      return run_norm<In, Out, 6>(a, stream);
    case 8:
      return run_norm<In, Out, 8>(a, stream);
    case 12:
      return run_norm<In, Out, 12>(a, stream);
    case 16:
      return run_norm<In, Out, 16>(a, stream);
    default:
      throw std::runtime_error("layer norm: no kernel for this width");
  }
}

}  // namespace

bool has_norm_width(std::int64_t width) {
  for (const std::int64_t parts : {1, 2, 4, 6, 8, 12, 16})
    if (width == parts * kStride) return true;
  return false;
}

void norm(const NormArguments& arguments, Precision in, Precision out, cudaStream_t stream) {
  if (in == Precision::kFloat && out == Precision::kFloat)
    return run_norm_of_width<float, float>(arguments, stream);
  if (in == Precision::kFloat) return run_norm_of_width<float, __nv_bfloat16>(arguments, stream);
  return run_norm_of_width<__nv_bfloat16, __nv_bfloat16>(arguments, stream);
}

template <typename Value>
static void run_gate(const GateArguments& a, cudaStream_t stream) {
  constexpr int kThreads = kWarp * kWarpsOfBlock;
  const auto of = [](const void* data) { return static_cast<const Value*>(data); };
  if (a.dz == nullptr) {
    gate_forward<<<blocks_for(a.rows), kThreads, 0, stream>>>(
        of(a.u), of(a.s), of(a.bias), static_cast<Value*>(a.z), a.rows, a.positions, a.width);
    check_launch("gate_forward");
    return;
  }
  gate_backward<<<blocks_for(a.rows), kThreads, 0, stream>>>(
      of(a.dz), of(a.u), of(a.s), of(a.bias), static_cast<Value*>(a.du), static_cast<Value*>(a.ds),
      a.partials, a.rows, a.positions, a.width);
  check_launch("gate_backward");
  auto* const dbias = static_cast<Value*>(a.dbias);
  sum_rows(a.partials, dbias, dbias, a.rows / a.positions, a.positions, a.positions, stream);
}

void gate(const GateArguments& arguments, Precision precision, cudaStream_t stream) {
  if (precision == Precision::kFloat) return run_gate<float>(arguments, stream);
  run_gate<__nv_bfloat16>(arguments, stream);
}

}  // namespace sluice::kernels::launch
