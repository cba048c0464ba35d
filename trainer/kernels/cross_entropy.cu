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
constexpr int kWarps = kThreads / kWarp;

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

/// Of all threads of the block, in a fixed tree, for all of them.
template <typename Value>
__device__ Partial<Value> merge_block(Partial<Value> own) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const Partial<Value> other = {__shfl_down_sync(0xffffffffu, own.top, offset),
                                  __shfl_down_sync(0xffffffffu, own.sum, offset)};
    own = merge(own, other);
  }
  __shared__ Value tops[kWarps];
  __shared__ Value sums[kWarps];
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  if (threadIdx.x % kWarp == 0) {
    tops[warp] = own.top;
    sums[warp] = own.sum;
  }
  __syncthreads();
  Partial<Value> all = {tops[0], sums[0]};
  for (int i = 1; i < kWarps; ++i) all = merge(all, Partial<Value>{tops[i], sums[i]});
  return all;
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
  const Partial<Value> all = merge_block(own);  // also: every thread has read the target's logit
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
      return launch_rows<Value, __nv_bfloat16>(arguments, stream);
  }
}
template void cross_entropy_rows<float>(const RowArguments&, RowGradient, cudaStream_t);
template void cross_entropy_rows<double>(const RowArguments&, RowGradient, cudaStream_t);

}  // namespace sluice::kernels::launch
