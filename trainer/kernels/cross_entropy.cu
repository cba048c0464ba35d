#include <cuda_bf16.h>

#include <cfloat>
#include <cmath>
#include <type_traits>

#include "trainer/kernels/cuda_check.cuh"
#include "trainer/kernels/cuda_launch.h"

namespace sluice::kernels::launch {
namespace {

constexpr int kThreads = 512;
constexpr int kWarp = 32;

__device__ float exponential(float value) { return expf(value); }
__device__ double exponential(double value) { return exp(value); }
__device__ float logarithm(float value) { return logf(value); }
__device__ double logarithm(double value) { return log(value); }
template <typename Value>
constexpr Value kLowest = static_cast<Value>(-FLT_MAX);
template <>
constexpr double kLowest<double> = -DBL_MAX;

/// The sum of exp(x - top) over some x, with top their maximum: such sums merge without overflow.
template <typename Value>
struct Partial {
  Value top = kLowest<Value>;
  Value sum = 0;
};

template <typename Value>
__device__ Partial<Value> merge(const Partial<Value>& a, const Partial<Value>& b) {
  const Value top = a.top > b.top ? a.top : b.top;
  return {top, a.sum * exponential(a.top - top) + b.sum * exponential(b.top - top)};
}

/// Of a warp's lanes, in a fixed tree, for all of them.
template <typename Value>
__device__ Partial<Value> merge_warp(Partial<Value> own) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const Partial<Value> other = {__shfl_xor_sync(0xffffffffu, own.top, offset),
                                  __shfl_xor_sync(0xffffffffu, own.sum, offset)};
    own = merge(own, other);
  }
  return own;
}

/// Of all threads of the block.
template <int kBlockThreads, typename Value>
__device__ Partial<Value> merge_block(Partial<Value> own) {
  constexpr int kWarps = kBlockThreads / kWarp;
  __shared__ Partial<Value> of_warps[kWarps];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  own = merge_warp(own);
  if (lane == 0) of_warps[threadIdx.x / kWarp] = own;
  __syncthreads();
  return merge_warp(lane < kWarps ? of_warps[lane] : Partial<Value>{});
}

template <typename Value, int kCount>
struct alignas(kCount == 1 ? alignof(Value)
                           : (sizeof(Value) * kCount < 16 ? sizeof(Value) * kCount : 16)) Pack {
  Value v[kCount];
};

__device__ void convert(float from, float& to) { to = from; }
__device__ void convert(double from, double& to) { to = from; }
__device__ void convert(float from, __nv_bfloat16& to) { to = __float2bfloat16_rn(from); }
__device__ void convert(double from, __nv_bfloat16& to) { to = __double2bfloat16(from); }

struct NoGradient {};

/// One row for each thread block. kCount elements at a time: 1, or 4 where the columns divide by it. A thread
/// writes the gradient only where it alone has read, so that gradient and logits may be one buffer.
template <typename Value, typename Gradient, int kCount>
__global__ void __launch_bounds__(kThreads) rows_kernel(RowArguments a) {
  using In = Pack<Value, kCount>;
  const std::int64_t row = blockIdx.x;
  const auto* const logits = static_cast<const Value*>(a.logits) + row * a.columns;
  const std::int64_t target = a.targets[row];
  const bool counts = target != a.ignored;
  const bool valid = target >= 0 && target < a.columns;
  const Value at_target = valid ? logits[target] : static_cast<Value>(NAN);
  Partial<Value> own;
  for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * kCount; i < a.columns;
       i += kThreads * kCount) {
    const In in = *reinterpret_cast<const In*>(logits + i);
    Value top = own.top;
#pragma unroll
    for (int k = 0; k < kCount; ++k) top = in.v[k] > top ? in.v[k] : top;
    if (top > own.top) own.sum *= exponential(own.top - top);
    own.top = top;
#pragma unroll
    for (int k = 0; k < kCount; ++k) own.sum += exponential(in.v[k] - top);
  }
  const Partial<Value> all = merge_block<kThreads>(own);  // also: every thread has read the target's logit
  if (threadIdx.x == 0) {
    const Value loss = logarithm(all.sum) + (all.top - at_target);
    static_cast<Value*>(a.losses)[row] = counts ? loss : Value{0};
  }
  if constexpr (!std::is_same_v<Gradient, NoGradient>) {
    using Out = Pack<Gradient, kCount>;
    auto* const gradient = static_cast<Gradient*>(a.gradient) + row * a.columns;
    const Value share = valid ? Value{1} / all.sum : static_cast<Value>(NAN);
    for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * kCount; i < a.columns;
         i += kThreads * kCount) {
      Out out;
      if (counts) {
        const In in = *reinterpret_cast<const In*>(logits + i);
#pragma unroll
        for (int k = 0; k < kCount; ++k) {
          const Value softmax = exponential(in.v[k] - all.top) * share;
          convert(i + k == target ? softmax - Value{1} : softmax, out.v[k]);
        }
      } else {
#pragma unroll
        for (int k = 0; k < kCount; ++k) convert(Value{0}, out.v[k]);
      }
      *reinterpret_cast<Out*>(gradient + i) = out;
    }
  }
}

constexpr int kHeldThreads = 1024;

/// The same for float32 logits and a bfloat16 gradient: a thread holds kPacks times four of the row's logits
/// in registers, so that they are read once, and each exponential is taken once.
template <int kPacks>
__global__ void __launch_bounds__(kHeldThreads) held_rows_kernel(RowArguments a) {
  const std::int64_t row = blockIdx.x;
  const auto* const logits = static_cast<const float*>(a.logits) + row * a.columns;
  auto* const gradient = static_cast<__nv_bfloat16*>(a.gradient) + row * a.columns;
  const std::int64_t target = a.targets[row];
  const bool counts = target != a.ignored;
  const bool valid = target >= 0 && target < a.columns;
  const int columns = static_cast<int>(a.columns);
  const int first = static_cast<int>(threadIdx.x) * 4;
  constexpr int kStride = kHeldThreads * 4;
  Pack<float, 4> held[kPacks];
#pragma unroll
  for (int pack = 0; pack < kPacks; ++pack)
    if (first + pack * kStride < columns)
      held[pack] = *reinterpret_cast<const Pack<float, 4>*>(logits + first + pack * kStride);
  Partial<float> own;
#pragma unroll
  for (int pack = 0; pack < kPacks; ++pack)
    if (first + pack * kStride < columns)
#pragma unroll
      for (const float logit : held[pack].v) own.top = fmaxf(own.top, logit);
#pragma unroll
  for (int pack = 0; pack < kPacks; ++pack)
    if (first + pack * kStride < columns)
#pragma unroll
      for (float& logit : held[pack].v) own.sum += logit = exponential(logit - own.top);
  const Partial<float> all = merge_block<kHeldThreads>(own);
  if (threadIdx.x == 0) {
    const float loss = logarithm(all.sum) + (all.top - (valid ? logits[target] : NAN));
    static_cast<float*>(a.losses)[row] = counts ? loss : 0.0F;
  }
  const float share = !counts ? 0.0F : (valid ? exponential(own.top - all.top) / all.sum : NAN);
#pragma unroll
  for (int pack = 0; pack < kPacks; ++pack) {
    const int column = first + pack * kStride;
    if (column >= columns) continue;
    Pack<__nv_bfloat16, 4> out;
#pragma unroll
    for (int k = 0; k < 4; ++k)
      convert(held[pack].v[k] * share - (counts && column + k == target ? 1.0F : 0.0F), out.v[k]);
    *reinterpret_cast<Pack<__nv_bfloat16, 4>*>(gradient + column) = out;
  }
}

/// Whether a kernel holds rows of so many columns; it then runs.
bool launch_held_rows(const RowArguments& a, cudaStream_t stream) {
  if (a.columns % 4 != 0 || a.columns > 13 * 4 * kHeldThreads) return false;
  const auto blocks = static_cast<unsigned int>(a.rows);
  const std::int64_t packs = (a.columns + 4 * kHeldThreads - 1) / (4 * kHeldThreads);
  if (packs <= 2)
    held_rows_kernel<2><<<blocks, kHeldThreads, 0, stream>>>(a);
  else if (packs <= 8)
    held_rows_kernel<8><<<blocks, kHeldThreads, 0, stream>>>(a);
  else
    held_rows_kernel<13><<<blocks, kHeldThreads, 0, stream>>>(a);
  check_launch("cross_entropy_rows");
  return true;
}

template <typename Value, typename Gradient>
void launch_rows(const RowArguments& a, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned int>(a.rows);
  if (a.columns % 4 == 0) {
    rows_kernel<Value, Gradient, 4><<<blocks, kThreads, 0, stream>>>(a);
  } else {
    rows_kernel<Value, Gradient, 1><<<blocks, kThreads, 0, stream>>>(a);
  }
  check_launch("cross_entropy_rows");
}

}  // namespace

template <typename Value>
void cross_entropy_rows(const RowArguments& arguments, RowGradient kind, cudaStream_t stream) {
  if (arguments.rows == 0) return;
  switch (kind) {
    case RowGradient::kNone:
      return launch_rows<Value, NoGradient>(arguments, stream);
    case RowGradient::kSame:
      return launch_rows<Value, Value>(arguments, stream);
    case RowGradient::kBf16:
      if constexpr (std::is_same_v<Value, float>)
        if (launch_held_rows(arguments, stream)) return;
      return launch_rows<Value, __nv_bfloat16>(arguments, stream);
  }
}
template void cross_entropy_rows<float>(const RowArguments&, RowGradient, cudaStream_t);
template void cross_entropy_rows<double>(const RowArguments&, RowGradient, cudaStream_t);

}  // namespace sluice::kernels::launch
