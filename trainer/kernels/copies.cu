#include "trainer/kernels/cuda_check.cuh"
#include "trainer/kernels/cuda_launch.h"

namespace sluice::kernels::launch {
namespace {

constexpr int kThreads = 1024;
constexpr int kBlocks = 16;  // an eighth of a GPU's cores, which moves about a terabyte a second
constexpr int kAtOnce = 4;   // vectors of a thread in flight

__global__ void __launch_bounds__(kThreads) copy_rows_kernel(const CopyRows a) {
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * kThreads;
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  for (std::int64_t row = 0; row < a.rows; ++row) {
    const auto* const from = static_cast<const uint4*>(a.from) + row * a.from_stride;
    auto* const to = static_cast<uint4*>(a.to) + row * a.to_stride;
    for (std::int64_t first = thread; first < a.vectors; first += kAtOnce * threads) {
      uint4 moved[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i)
        if (first + i * threads < a.vectors) moved[i] = from[first + i * threads];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i)
        if (first + i * threads < a.vectors) to[first + i * threads] = moved[i];
    }
  }
}

}  // namespace

void copy_rows(const CopyRows& a, cudaStream_t stream) {
  if (a.rows == 0 || a.vectors == 0) return;
  copy_rows_kernel<<<kBlocks, kThreads, 0, stream>>>(a);
  check_launch("copy_rows");
}

}  // namespace sluice::kernels::launch
