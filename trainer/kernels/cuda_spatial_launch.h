#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

// Launchers of the spatial products' kernels (spatial.cu), for GPUs of compute capability 9.0 alone. bfloat16
// tensors as the address of their first element, 16-byte aligned; b batch, n positions of this call, h
// channels (a multiple of 8). W is [n, n] with rows `weight_stride` (a multiple of 8) apart. Each checks its
// launches and throws std::runtime_error with CUDA's own words.
namespace sluice::kernels::launch {

inline constexpr std::int64_t kSpatialTile = 128;  ///< rows of an output tile, and of a diagonal block

enum class Triangle { kLower, kNone };

struct SpatialShape {
  std::int64_t batch = 0;
  std::int64_t positions = 0;
  std::int64_t width = 0;
  std::int64_t weight_stride = 0;
  Triangle triangle = Triangle::kLower;  ///< of W: positions after one's own are skipped, never read
};

/// W's blocks on the diagonal, zero above it and beyond n: [tiles * 128, 128], tiles = n / 128 rounded up.
void spatial_diagonal(const void* weight, const SpatialShape& shape, void* diagonal, cudaStream_t stream);

struct SpatialForward {
  const void* weight;
  const void* diagonal;  ///< of spatial_diagonal; only if lower
  const void* input;     ///< v [b, n, h]
  const void* bias;      ///< [n]
  const void* bypass;    ///< [b n, h], rows bypass_stride apart: u before GELU
  std::int64_t bypass_stride;
  void* mixed;  ///< s = W v + bias [b, n, h]; null: not wanted
  void* gated;  ///< gelu(u) * s [b, n, h]
};
void spatial_forward(const SpatialForward& arguments, const SpatialShape& shape, cudaStream_t stream);

struct SpatialInput {
  const void* weight;
  const void* diagonal;
  const void* gradient;  ///< ds [b, n, h]
  void* input;           ///< dv = W^T ds [b, n, h]
};
void spatial_input_gradient(const SpatialInput& arguments, const SpatialShape& shape, cudaStream_t stream);

/// float32 elements of scratch memory that spatial_weight_gradient needs; may be 0.
[[nodiscard]] std::int64_t spatial_partials(const SpatialShape& shape);

struct SpatialWeight {
  const void* gradient;  ///< ds [b, n, h]
  const void* input;     ///< v [b, n, h]
  float* sum;       ///< [n, n], rows weight_stride apart: += ds v^T over the batch, the lower triangle only
  float* partials;  ///< of spatial_partials
};
void spatial_weight_gradient(const SpatialWeight& arguments, const SpatialShape& shape, cudaStream_t stream);

}  // namespace sluice::kernels::launch
