#pragma once

#include <cstdint>

// The row loops of the fused passes (fused_passes.h) in float32 on a CPU, over plain pointers: this header is
// read by sources that are compiled for one instruction set each, in which no inline function of anybody else
// may be instantiated (the linker keeps one copy for the whole program). Columns of a row are adjacent;
// matrices without a stride are contiguous. `width` columns.
namespace sluice::kernels::host {

/// Rows that a loop takes at once.
inline constexpr std::int64_t kRowsAtOnce = 4;

/// Rows of one call.
struct Chunk {
  std::int64_t first;
  std::int64_t end;
  float* sums;     ///< [columns' sums of the pass, width], added to
  float* scratch;  ///< [kRowsAtOnce, width]
};

struct Strided {
  const float* data;
  std::int64_t stride;  ///< of rows, in elements
};

struct ResidualNormForward {
  const float* x;
  const float* branch;  ///< and branch_bias, sum: null where there is no branch
  const float* branch_bias;
  const float* weight;
  const float* bias;
  float* sum;
  float* y;
  float* statistics;  ///< [rows, 2]: mean, 1 / deviation
  std::int64_t width;
  float eps;
};

/// Sums: of weight, bias, and dx.
struct ResidualNormBackward {
  const float* dy;
  const float* dsum;  ///< or null
  const float* sum;
  const float* weight;
  const float* statistics;
  float* dx;
  std::int64_t width;
};

struct GeluNormForward {
  Strided input;
  const float* weight;
  const float* bias;
  float* y;
  float* statistics;
  std::int64_t width;
  float eps;
};

/// Sums: of weight, bias, and dinput.
struct GeluNormBackward {
  Strided dy;
  Strided input;
  const float* weight;
  const float* statistics;
  float* dinput;
  std::int64_t dinput_stride;
  std::int64_t width;
};

struct GateForward {
  Strided input;
  Strided mixed;
  const float* bias;  ///< [positions], or null
  float* z;
  std::int64_t positions;
  std::int64_t width;
};

/// Sums: of dinput.
struct GateBackward {
  Strided dz;
  Strided input;
  Strided mixed;
  const float* bias;  ///< [positions], or null
  float* z;
  float* dmixed;
  float* dinput;
  std::int64_t dinput_stride;
  float* row_sums;  ///< [rows]: of dmixed
  std::int64_t positions;
  std::int64_t width;
};

struct RowLoops {
  void (*residual_norm_forward)(const ResidualNormForward&, const Chunk&);
  void (*residual_norm_backward)(const ResidualNormBackward&, const Chunk&);
  void (*gelu_norm_forward)(const GeluNormForward&, const Chunk&);
  void (*gelu_norm_backward)(const GeluNormBackward&, const Chunk&);
  void (*gate_forward)(const GateForward&, const Chunk&);
  void (*gate_backward)(const GateBackward&, const Chunk&);
};

// Run by processors with these instruction sets alone (host_rows_x86.cpp chooses).
[[nodiscard]] const RowLoops& row_loops_avx2();
[[nodiscard]] const RowLoops& row_loops_avx512();

/// The best for this processor, or what ATEN_CPU_CAPABILITY leaves of it; null: there are none, and ATen
/// computes.
[[nodiscard]] const RowLoops* row_loops();

}  // namespace sluice::kernels::host
