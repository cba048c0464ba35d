#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

// Launchers of the spatial products' kernels (spatial.cu), for GPUs of compute capability 9.0 alone. bfloat16
// tensors as the address of their first element, 16-byte aligned; b batch, n positions of the sequence, h
// channels (a multiple of 8). A call multiplies some rows and some columns of W: `own` says which rows it has
// and where they stand, in W [.., n], whose rows are `weight_stride` (a multiple of 8) apart, and in tensors
// of own rows [b, own_rows, h]; `seen` says which columns, and where their positions stand in tensors
// [.., seen_rows, h]. Each checks its launches and throws std::runtime_error with CUDA's own words.
namespace sluice::kernels::launch {

inline constexpr std::int64_t kSpatialTile = 128;  ///< rows of an output tile, and of a diagonal block
inline constexpr int kMostStrips = 16;

enum class Triangle { kLower, kNone };

/// What becomes of an output row's sum in spatial_forward.
enum class Sum : int {
  kWhole,    ///< it is all there is: bias and gate follow
  kFirst,    ///< the first part of it: kept as it is
  kFurther,  ///< added to what is kept
  kLast,     ///< added to what is kept, and bias and gate follow
};

/// Positions [begin, begin + count) of the sequence. begin and row are multiples of kSpatialTile, and so is
/// count but of the last positions of the sequence.
struct SpatialStrip {
  int begin = 0;
  int count = 0;
  int row = 0;    ///< where the first one stands in a sequence's rows
  int outer = 0;  ///< sequence b is at outer + b
  Sum sum = Sum::kWhole;
};
struct SpatialStrips {
  int count = 0;
  SpatialStrip of[kMostStrips];
};

struct SpatialShape {
  std::int64_t batch = 0;
  std::int64_t positions = 0;  ///< n
  std::int64_t width = 0;
  std::int64_t weight_stride = 0;
  Triangle triangle = Triangle::kLower;  ///< of W: positions after one's own are skipped, never read
  SpatialStrips own;
  std::int64_t own_rows = 0;
  SpatialStrips seen;
  std::int64_t seen_rows = 0;
  int block_tiles = 0;  ///< most output tiles that a thread block computes one after another; 0: any number
  std::int64_t seen_outer = 0;  ///< sequences of tensors of seen rows: batch, or more if strips have an outer
};

/// W's blocks on the diagonal, zero above it and beyond n: [tiles * 128, 128] by own rows, tiles = own_rows /
/// 128 rounded up.
void spatial_diagonal(const void* weight, const SpatialShape& shape, void* diagonal, cudaStream_t stream);

struct SpatialForward {
  const void* weight;
  const void* diagonal;  ///< of spatial_diagonal; only if lower
  const void* input;     ///< v of seen rows
  const void* bias;      ///< [n]
  const void* bypass;    ///< [b own_rows, h], rows bypass_stride apart: u before GELU
  std::int64_t bypass_stride;
  void* mixed;  ///< s = W v + bias of own rows, or the sum so far (Sum); null: not wanted
  void* gated;  ///< gelu(u) * s of own rows
};
void spatial_forward(const SpatialForward& arguments, const SpatialShape& shape, cudaStream_t stream);

struct SpatialInput {
  const void* weight;
  const void* diagonal;
  const void* gradient;  ///< ds of own rows
  const void* added;     ///< [b, added_rows, h] is added to the first of each sequence's rows; null: nothing
  std::int64_t added_rows;
  void* input;  ///< dv = W^T ds of seen rows
};
void spatial_input_gradient(const SpatialInput& arguments, const SpatialShape& shape, cudaStream_t stream);

/// float32 elements of scratch memory that spatial_weight_gradient needs; may be 0.
[[nodiscard]] std::int64_t spatial_partials(const SpatialShape& shape);

enum class Before { kSum, kNothing };  ///< what is there where a sum is to be

struct SpatialWeight {
  const void* gradient;  ///< ds of own rows
  const void* input;     ///< v of seen rows
  float* sum;            ///< own rows weight_stride apart: += ds v^T over the batch, the lower triangle only
  Before before;         ///< kNothing: the sum is written over it; what is above the triangle stays
  float* partials;       ///< of spatial_partials
};
void spatial_weight_gradient(const SpatialWeight& arguments, const SpatialShape& shape, cudaStream_t stream);

}  // namespace sluice::kernels::launch
