#include <cuda_bf16.h>

#include <algorithm>

#include "trainer/kernels/cuda_check.cuh"
#include "trainer/kernels/cuda_launch.h"
#include "trainer/kernels/philox.h"

namespace sluice::kernels::launch {
namespace {

constexpr int kThreadsOfBlock = 256;
constexpr int kDraws = 4;

template <typename Value>
struct alignas(kDraws * sizeof(Value)) Four {
  Value at[kDraws];
};

__device__ float scaled(float value, float scale) { return value * scale; }
__device__ __nv_bfloat16 scaled(__nv_bfloat16 value, float scale) {
  return __float2bfloat16_rn(__bfloat162float(value) * scale);
}

/// A thread takes four neighbours, which share their draw. `Whole`: every part has a multiple of four
/// elements and begins where a vector of four may.
template <typename Value, bool Whole>
__global__ void drop(const DropoutArguments a) {
  const auto groups = static_cast<std::uint32_t>((a.elements + kDraws - 1) / kDraws);
  for (std::int64_t part = blockIdx.y; part < a.parts; part += gridDim.y) {
    const auto sample = static_cast<std::uint64_t>(a.samples[part]);
    const Value* const x = static_cast<const Value*>(a.x) + part * a.elements;
    Value* const y = static_cast<Value*>(a.y) + part * a.elements;
    for (std::uint32_t group = blockIdx.x * blockDim.x + threadIdx.x; group < groups;
         group += gridDim.x * blockDim.x) {
      const PhiloxWords words = draws_of(a.seed, a.site, sample, group);
      const std::int64_t first = static_cast<std::int64_t>(group) * kDraws;
      if constexpr (Whole) {
        Four<Value> values = *reinterpret_cast<const Four<Value>*>(x + first);
#pragma unroll
        for (int i = 0; i < kDraws; ++i)
          values.at[i] = words.at[i] >= a.threshold ? scaled(values.at[i], a.scale) : Value(0.0F);
        *reinterpret_cast<Four<Value>*>(y + first) = values;
      } else {
        for (int i = 0; i < kDraws && first + i < a.elements; ++i)
          y[first + i] = words.at[i] >= a.threshold ? scaled(x[first + i], a.scale) : Value(0.0F);
      }
    }
  }
}

template <typename Value>
void run(const DropoutArguments& a, cudaStream_t stream) {
  constexpr std::int64_t kMostBlocks = 1024, kMostParts = 65535;
  const std::int64_t groups = (a.elements + kDraws - 1) / kDraws;
  const dim3 grid(
      static_cast<unsigned>(std::min(kMostBlocks, (groups + kThreadsOfBlock - 1) / kThreadsOfBlock)),
      static_cast<unsigned>(std::min(kMostParts, a.parts)));
  const auto aligned = [](const void* data) {
    return reinterpret_cast<std::uintptr_t>(data) % sizeof(Four<Value>) == 0;
  };
  if (a.elements % kDraws == 0 && aligned(a.x) && aligned(a.y)) {
    drop<Value, true><<<grid, kThreadsOfBlock, 0, stream>>>(a);
  } else {
    drop<Value, false><<<grid, kThreadsOfBlock, 0, stream>>>(a);
  }
  check_launch("dropout");
}

}  // namespace

void dropout(const DropoutArguments& arguments, Precision precision, cudaStream_t stream) {
  if (arguments.parts == 0 || arguments.elements == 0) return;
  if (precision == Precision::kFloat) return run<float>(arguments, stream);
  run<__nv_bfloat16>(arguments, stream);
}

}  // namespace sluice::kernels::launch
