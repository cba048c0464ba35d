#include <cuda_bf16.h>

#include "trainer/kernels/cuda_check.cuh"
#include "trainer/kernels/cuda_launch.h"

// Compiled without contraction to fused multiply-adds (trainer/CMakeLists.txt): an update has the bits of
// optim::AdamW's.
namespace sluice::kernels::launch {
namespace {

constexpr int kThreads = 256;
constexpr unsigned int kWarp = 32;

/// Sum over the block's threads, in a fixed tree; the result is thread 0's.
__device__ double block_sum(double value) {
  __shared__ double sums[kThreads];
  const unsigned int thread = threadIdx.x;
  sums[thread] = value;
  __syncthreads();
  for (unsigned int half = kThreads / 2; half >= kWarp; half /= 2) {
    if (thread < half) sums[thread] += sums[thread + half];
    __syncthreads();
  }
  if (thread >= kWarp) return 0;
  double sum = sums[thread];
  for (unsigned int half = kWarp / 2; half > 0; half /= 2) sum += __shfl_down_sync(0xFFFFFFFF, sum, half);
  return sum;
}

__device__ double square(float value) { return static_cast<double>(value) * static_cast<double>(value); }

/// Four elements from `at`; zeros for those at `end` and beyond.
__device__ float4 values_at(const float* flat, std::int64_t at, std::int64_t end) {
  if (at + 4 <= end) return *reinterpret_cast<const float4*>(flat + at);
  return {flat[at], at + 1 < end ? flat[at + 1] : 0, at + 2 < end ? flat[at + 2] : 0, 0};
}

__global__ void __launch_bounds__(kThreads)
    slice_blocks(const float* __restrict__ flat, const std::uint8_t* __restrict__ updates,
                 const std::int64_t* __restrict__ work, double* __restrict__ partials) {
  const auto* const own = reinterpret_cast<const longlong2*>(work + blockIdx.x * kSliceColumns);
  const auto [begin, end] = own[0];
  const auto [block, in_part] = own[1];
  constexpr int kRounds = kElementsPerBlock / (4 * kThreads);
  const auto place = [first = begin](int round) {
    return first + (round * kThreads + static_cast<int>(threadIdx.x)) * 4;
  };
  bool reads[kRounds];  // all flags are asked for before any element
#pragma unroll
  for (int round = 0; round < kRounds; ++round)
    reads[round] =
        place(round) < end && (in_part == 0 || updates[place(round) / kDecayElements] != kIdleBlock);
  float4 values[kRounds];  // and all elements before any is squared
#pragma unroll
  for (int round = 0; round < kRounds; ++round)
    values[round] = reads[round] ? values_at(flat, place(round), end) : float4{0, 0, 0, 0};
  double sum = 0;
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const float4& v = values[round];
    sum += (square(v.x) + square(v.y)) + (square(v.z) + square(v.w));
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partials[block] = sum;
}

__global__ void __launch_bounds__(kThreads)
    slice_totals(const std::int64_t* __restrict__ table, const double* __restrict__ partials,
                 double* __restrict__ sums) {
  const std::int64_t* slice = table + static_cast<std::int64_t>(blockIdx.x) * kSliceColumns;
  const std::int64_t blocks = (slice[1] - slice[0] + kElementsPerBlock - 1) / kElementsPerBlock;
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < blocks; i += kThreads) sum += partials[slice[3] + i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[slice[2]] = sum;
}

// Offsets in UpdateScalars, Agreed and Decision (device_update.h; held together by static_asserts in
// device_update_cuda.cpp).
__global__ void __launch_bounds__(kThreads)
    decide(const double* __restrict__ slice_sums, std::int64_t count, const double* __restrict__ agreed,
           const double* __restrict__ scalars, double* __restrict__ decision) {
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += kThreads) sum += slice_sums[i];
  sum = block_sum(sum);
  if (threadIdx.x != 0) return;
  const double norm = sqrt(sum);
  const double clip = scalars[kClip];
  decision[0] = norm;
  decision[1] = agreed[0];
  decision[2] = agreed[1];
  decision[3] = agreed[2];
  decision[kScale] = clip == 0 || norm <= clip ? 1.0 : clip / norm;
  decision[kGo] = isfinite(norm) && isfinite(agreed[0]) && agreed[1] == 0 ? 1.0 : 0.0;
}

struct Constants {
  float scale, beta1, beta2, one_minus_beta1, one_minus_beta2, step_size, second_correction, eps, keep,
      decay_in_gradient;
};

__device__ Constants load_constants(const double* __restrict__ s, const double* __restrict__ decision) {
  const auto as = [](double value) { return static_cast<float>(value); };
  return {.scale = as(decision[kScale]),
          .beta1 = as(s[2]),
          .beta2 = as(s[3]),
          .one_minus_beta1 = as(s[4]),
          .one_minus_beta2 = as(s[5]),
          .step_size = as(s[0]),
          .second_correction = as(s[1]),
          .eps = as(s[6]),
          .keep = as(s[7]),
          .decay_in_gradient = as(s[8])};
}

__device__ void update(float& parameter, float gradient, float& first, float& second, const Constants& c,
                       float keep, float decay_in_gradient) {
  const float g = gradient * c.scale + parameter * decay_in_gradient;
  first = c.beta1 * first + c.one_minus_beta1 * g;
  second = c.beta2 * second + c.one_minus_beta2 * (g * g);
  parameter = parameter * keep - c.step_size * first / (sqrtf(second) * c.second_correction + c.eps);
}

constexpr int kVector = 8;  // elements of a thread: two 16-byte accesses to each float buffer, one to bf16

/// Eight elements in registers.
struct Octet {
  float v[kVector];
};
__device__ Octet load(const float* from) {
  const float4 low = *reinterpret_cast<const float4*>(from);
  const float4 high = *reinterpret_cast<const float4*>(from + 4);
  return {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
}
__device__ void store(float* to, const Octet& o) {
  *reinterpret_cast<float4*>(to) = make_float4(o.v[0], o.v[1], o.v[2], o.v[3]);
  *reinterpret_cast<float4*>(to + 4) = make_float4(o.v[4], o.v[5], o.v[6], o.v[7]);
}
__device__ void store(__nv_bfloat16* to, const Octet& o) {
  union {
    __nv_bfloat162 pairs[kVector / 2];
    uint4 all;
  } packed;
#pragma unroll
  for (int i = 0; i < kVector / 2; ++i) packed.pairs[i] = __floats2bfloat162_rn(o.v[2 * i], o.v[2 * i + 1]);
  *reinterpret_cast<uint4*>(to) = packed.all;
}

/// Which slice block `block` of the grid is of.
__device__ int slice_of(const AdamwArguments& all, unsigned int block) {
  int low = 0;
  for (int high = all.count; high - low > 1;) {
    const int middle = (low + high) / 2;
    (all.first_block[middle] <= block ? low : high) = middle;
  }
  return low;
}

__global__ void __launch_bounds__(kThreads) adamw(const __grid_constant__ AdamwArguments all) {
  if (all.decision[kGo] == 0) return;
  const int slice = slice_of(all, blockIdx.x);
  const AdamwSlice& a = all.slices[slice];
  const std::int64_t block = blockIdx.x - all.first_block[slice];
  const std::int64_t at = (block * kThreads + threadIdx.x) * kVector;
  if (at >= a.count) return;
  const Constants c = load_constants(all.scalars, all.decision);
  const std::uint8_t how = a.blocks[at / kDecayElements];
  if (how == kIdleBlock) return;
  const bool decays = how == kDecayedBlock;
  const float keep = decays ? c.keep : 1.0f;
  const float decay_in_gradient = decays ? c.decay_in_gradient : 0.0f;
  auto* compute = static_cast<__nv_bfloat16*>(a.compute_bf16);
  if (at + kVector <= a.count) {
    const Octet gradient = load(a.gradients + at);
    Octet parameter = load(a.parameters + at);
    Octet first = load(a.first + at);
    Octet second = load(a.second + at);
#pragma unroll
    for (int i = 0; i < kVector; ++i)
      update(parameter.v[i], gradient.v[i], first.v[i], second.v[i], c, keep, decay_in_gradient);
    store(a.parameters + at, parameter);
    store(a.first + at, first);
    store(a.second + at, second);
    if (compute != nullptr) store(compute + at, parameter);
    if (a.copy != nullptr)
      compute != nullptr ? store(static_cast<__nv_bfloat16*>(a.copy) + at, parameter)
                         : store(static_cast<float*>(a.copy) + at, parameter);
    return;
  }
  for (std::int64_t i = at; i < a.count; ++i) {
    update(a.parameters[i], a.gradients[i], a.first[i], a.second[i], c, keep, decay_in_gradient);
    if (compute != nullptr) compute[i] = __float2bfloat16_rn(a.parameters[i]);
    if (a.copy == nullptr) continue;
    if (compute != nullptr)
      static_cast<__nv_bfloat16*>(a.copy)[i] = compute[i];
    else
      static_cast<float*>(a.copy)[i] = a.parameters[i];
  }
}

__global__ void __launch_bounds__(kThreads)
    split(const std::int32_t* __restrict__ windows, const std::int32_t* __restrict__ rows,
          std::int64_t* __restrict__ tokens, std::int64_t* __restrict__ targets, std::int64_t batch,
          std::int64_t length, std::int64_t width, std::int64_t ignored) {
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= batch * length) return;
  const std::int64_t row = at / length;
  const std::int32_t* const window = windows + row * width + at % length;
  tokens[at] = window[0];
  targets[at] = row < rows[0] ? window[width - length] : ignored;
}

unsigned int blocks_for(std::int64_t count, std::int64_t per_block) {
  return static_cast<unsigned int>((count + per_block - 1) / per_block);
}

}  // namespace

void slice_sums(const float* flat, const std::uint8_t* updates, const SliceTables& tables, double* partials,
                double* sums, cudaStream_t stream) {
  if (tables.blocks > 0) {
    slice_blocks<<<static_cast<unsigned int>(tables.blocks), kThreads, 0, stream>>>(flat, updates,
                                                                                    tables.work, partials);
    check_launch("slice_sums, blocks");
  }
  if (tables.slices > 0) {
    slice_totals<<<static_cast<unsigned int>(tables.slices), kThreads, 0, stream>>>(tables.table, partials,
                                                                                    sums);
    check_launch("slice_sums, totals");
  }
}

void decide_update(const double* slice_sums, std::int64_t count, const double* agreed, const double* scalars,
                   double* decision, cudaStream_t stream) {
  decide<<<1, kThreads, 0, stream>>>(slice_sums, count, agreed, scalars, decision);
  check_launch("decide_update");
}

unsigned int adamw_blocks(std::int64_t count) { return blocks_for(count, kThreads * kVector); }

void adamw_update(const AdamwArguments& arguments, cudaStream_t stream) {
  adamw<<<arguments.blocks, kThreads, 0, stream>>>(arguments);
  check_launch("adamw_update");
}

void split_windows(const std::int32_t* windows, const std::int32_t* rows, std::int64_t* tokens,
                   std::int64_t* targets, std::int64_t batch, std::int64_t length, std::int64_t width,
                   std::int64_t ignored, cudaStream_t stream) {
  if (batch * length == 0) return;
  split<<<blocks_for(batch * length, kThreads), kThreads, 0, stream>>>(windows, rows, tokens, targets, batch,
                                                                       length, width, ignored);
  check_launch("split_windows");
}

}  // namespace sluice::kernels::launch
