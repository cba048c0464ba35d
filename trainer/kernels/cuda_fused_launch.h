#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>

#include "trainer/kernels/cuda_launch.h"
#include "trainer/kernels/gelu.h"

// Launchers of fused_*.cu, as cuda_launch.h says. What they do: fused_passes.h and mlp_passes.h.
namespace sluice::kernels::launch {

/// Rows of `stride` elements, adjacent within a row and 16-byte aligned.
struct Strided {
  const void* data;
  std::int64_t stride;
};

inline constexpr std::int64_t kFusedWidth = 8192;  ///< widest row
/// Blocks of a launch at most. Each leaves sums over its rows; launchers that leave some return how many
/// blocks there were.
inline constexpr int kFusedMost = 396;

/// Warps that take a row together: eight columns a lane, sixteen where 512 threads would not do.
constexpr int fused_warps(std::int64_t width) {
  const std::int64_t columns = width > kFusedWidth / 2 ? 512 : 256;
  return static_cast<int>((width + columns - 1) / columns);
}

struct ResidualForward {
  const void* x;
  const void* branch;  ///< or null, and so branch_bias and sum
  const void* branch_bias;
  const void* weight;
  const void* bias;
  void* sum;
  void* y;
  float* statistics;
  std::int64_t rows;
  std::int64_t width;
  float eps;
};
void residual_norm_forward(const ResidualForward& arguments, Precision residual, Precision compute,
                           cudaStream_t stream);

struct ResidualBackward {
  const void* dy;
  const void* dsum;  ///< or null: zero
  const void* sum;
  const void* weight;
  const float* statistics;
  void* dx;
  void* branch;      ///< or null: not wanted
  bool sums_branch;  ///< the gradient itself, too
  float* partials;   ///< [3, kFusedMost, width]
  std::int64_t rows;
  std::int64_t width;
};
int residual_norm_backward(const ResidualBackward& arguments, Precision residual, Precision compute,
                           cudaStream_t stream);

struct GeluForward {
  Strided input;
  const void* weight;
  const void* bias;
  void* y;
  void* again;  ///< y once more, or null
  float* statistics;
  std::int64_t rows;
  std::int64_t width;
  float eps;
};
void gelu_norm_forward(const GeluForward& arguments, Precision compute, cudaStream_t stream);

struct GeluBackward {
  Strided dy;
  Strided input;
  const void* weight;
  const float* statistics;
  void* dinput;
  std::int64_t dinput_stride;
  float* partials;  ///< [3, kFusedMost, width]
  std::int64_t rows;
  std::int64_t width;
};
int gelu_norm_backward(const GeluBackward& arguments, Precision compute, cudaStream_t stream);

struct GateForward {
  Strided input;
  Strided mixed;
  const void* bias;  ///< or null: zero
  void* z;
  std::int64_t rows;
  std::int64_t positions;
  std::int64_t width;
};
void gate_forward(const GateForward& arguments, Precision compute, cudaStream_t stream);

struct GateBackward {
  Strided dz;
  Strided input;
  Strided mixed;
  const void* bias;  ///< or null: zero
  void* z;
  void* dmixed;
  void* dinput;
  std::int64_t dinput_stride;
  float* partials;      ///< [kFusedMost, width]
  float* row_partials;  ///< [fused_warps(width), rows]
  std::int64_t rows;
  std::int64_t positions;
  std::int64_t width;
};
int gate_backward(const GateBackward& arguments, Precision compute, cudaStream_t stream);

struct ActivationForward {
  const void* input;
  void* y;
  std::int64_t rows;
  std::int64_t width;
  GeluForm form;
};
void gelu_forward(const ActivationForward& arguments, Precision compute, cudaStream_t stream);

struct ActivationBackward {
  const void* dy;
  const void* input;
  void* dinput;
  float* partials;  ///< [kFusedMost, width]
  std::int64_t rows;
  std::int64_t width;
  GeluForm form;
};
int gelu_backward(const ActivationBackward& arguments, Precision compute, cudaStream_t stream);

inline constexpr int kJoined = 3;
struct Join {
  const void* parts[kJoined];  ///< [rows, width / kJoined] each
  void* joined;
  float* partials;  ///< [kFusedMost, width]
  std::int64_t rows;
  std::int64_t width;
};
int join_columns(const Join& arguments, Precision compute, cudaStream_t stream);

inline constexpr int kColumnSums = 8;  ///< of one launch
/// into [columns] += the sum over rows of partials [rows, columns].
struct ColumnSum {
  const float* partials;
  float* into;  ///< or null: none
  int rows;
  int columns;
};
struct ColumnSums {
  ColumnSum of[kColumnSums];
};
void add_column_sums(const ColumnSums& sums, cudaStream_t stream);

}  // namespace sluice::kernels::launch
