#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

// Launchers of the kernels in the .cu files: plain pointers to device memory, enqueued on `stream`; bf16
// tensors as the address of their first element. Each checks its launch and throws std::runtime_error with
// CUDA's own words. Callers have checked shapes, types and alignment.
namespace sluice::kernels::launch {

// Where the kernels find the fields of UpdateScalars and Decision, as doubles, and kDecayBlock
// (device_update.h): device_update_cuda.cpp asserts that they agree.
inline constexpr int kClip = 9;
inline constexpr int kScale = 4;
inline constexpr int kGo = 5;
inline constexpr int kDecayElements = 32;
inline constexpr int kDecayedBlock = 1;  // of BlockUpdate
inline constexpr int kIdleBlock = 2;

inline constexpr int kSliceColumns = 4;                  ///< of both tables of SliceSums
inline constexpr std::int64_t kElementsPerBlock = 8192;  ///< a slice's fixed block

/// SliceSums' tables, on the device.
struct SliceTables {
  const std::int64_t* table;
  std::int64_t slices;
  const std::int64_t* work;
  std::int64_t blocks;
};
void slice_sums(const float* flat, const std::uint8_t* updates, const SliceTables& tables, double* partials,
                double* sums, cudaStream_t stream);

/// Rows of 16-byte vectors, `stride` vectors apart, by a few blocks.
struct CopyRows {
  void* to;
  const void* from;
  std::int64_t rows;
  std::int64_t vectors;
  std::int64_t to_stride;
  std::int64_t from_stride;
};
void copy_rows(const CopyRows& arguments, cudaStream_t stream);

void decide_update(const double* slice_sums, std::int64_t count, const double* agreed, const double* scalars,
                   double* decision, cudaStream_t stream);

struct AdamwSlice {
  float* parameters;
  const float* gradients;
  float* first;
  float* second;
  void* compute_bf16;  ///< or null
  const std::uint8_t* blocks;
  void* copy;  ///< of compute_bf16, where that is null of parameters; or null
  std::int64_t count;
};
/// Slices of one launch. More take another.
constexpr int kAdamwSlices = 48;
struct AdamwArguments {
  AdamwSlice slices[kAdamwSlices];
  unsigned int first_block[kAdamwSlices];  ///< of the grid, ascending
  int count;                               ///< of slices, none empty
  unsigned int blocks;
  const double* scalars;
  const double* decision;
};
[[nodiscard]] unsigned int adamw_blocks(std::int64_t count);
void adamw_update(const AdamwArguments& arguments, cudaStream_t stream);

void split_windows(const std::int32_t* windows, const std::int32_t* rows, std::int64_t* tokens,
                   std::int64_t* targets, std::int64_t batch, std::int64_t length, std::int64_t width,
                   std::int64_t ignored, cudaStream_t stream);

enum class RowGradient { kNone, kSame, kBf16 };  ///< of the logits' own type, or bfloat16
struct RowArguments {
  const void* logits;
  const std::int64_t* targets;
  void* losses;
  void* gradient;  ///< may be the logits, if of their type
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t ignored;
};
/// Logits and losses of type Value: float or double.
template <typename Value>
void cross_entropy_rows(const RowArguments& arguments, RowGradient kind, cudaStream_t stream);

enum class Precision { kFloat, kBf16 };

inline constexpr int kNormBlocks = 528;  ///< of the backward; fixed, since sums over rows go by block

/// A layer norm forward (dy null: x, weight, bias -> y, statistics) or backward (dy, x, weight, statistics ->
/// dx, dweight, dbias by way of partials [kNormBlocks, 2, width]).
struct NormArguments {
  const void* x;
  const void* weight;
  const void* bias;
  const void* dy;
  void* y;
  float* statistics;  ///< [rows, 2]: mean, 1 / deviation
  void* dx;
  void* dweight;
  void* dbias;
  float* partials;
  std::int64_t rows;
  std::int64_t width;
  float eps;
};

[[nodiscard]] bool has_norm_width(std::int64_t width);
/// `in`: of x and dx; `out`: of all else.
void norm(const NormArguments& arguments, Precision in, Precision out, cudaStream_t stream);

/// The gate forward (dz null: z = u * (s + bias[position])) or backward (dz -> du, ds, dbias by way of
/// partials [rows]). Rows are batch x positions; width a multiple of 4.
struct GateArguments {
  const void* u;
  const void* s;
  const void* bias;
  const void* dz;
  void* z;
  void* du;
  void* ds;
  void* dbias;
  float* partials;
  std::int64_t rows;
  std::int64_t positions;
  std::int64_t width;
};

void gate(const GateArguments& arguments, Precision precision, cudaStream_t stream);

/// `parts` equal pieces of x, each of `elements`: those of part p are drawn by samples[p] (philox.h).
struct DropoutArguments {
  const void* x;
  void* y;
  const std::int64_t* samples;
  std::int64_t parts;
  std::int64_t elements;  ///< of a part, at most 2^33
  std::uint64_t seed;
  std::uint32_t site;
  std::uint32_t threshold;  ///< a draw of 32 bits below it drops
  float scale;
};
void dropout(const DropoutArguments& arguments, Precision precision, cudaStream_t stream);

}  // namespace sluice::kernels::launch
