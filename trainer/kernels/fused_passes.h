#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "trainer/kernels/column_sums.h"

// The passes of a gMLP block between its products (arXiv 2105.08050, figure 1), as CUDA kernels, or loops on
// a CPU (host_passes.h), that read and write every tensor once. Arithmetic in float32; GELU by the error
// function, computed again from its input wherever it is needed. Where has_fused_passes is false they throw
// c10::Error.
//
// Shapes: T rows (batch x positions), d d_model, h half of d_ffn. Type C: the parameters' (float32 or
// bfloat16); type R: the residual stream's (float32, or C). [T, h] halves may be columns of a wider matrix:
// elements of a row adjacent, rows at any stride that keeps them 16-byte aligned. "Sums" are float32 and
// are added to, in an order that depends on the shapes alone; on a GPU by later->finish() where `later` is
// given.
namespace sluice::kernels {

/// Of a row that a GPU's kernels take.
inline constexpr std::int64_t kMostFusedWidth = 8192;
[[nodiscard]] constexpr bool is_fused_width(std::int64_t width) {
  return width > 0 && width % 8 == 0 && width <= kMostFusedWidth;
}

/// Whether there are passes: on a GPU, type C and R as above, every width one of is_fused_width(); on a CPU,
/// float32 and of any width, but for processors whose instructions host_passes.h lacks.
[[nodiscard]] bool has_fused_passes(const at::Tensor& x, at::ScalarType compute, at::IntArrayRef widths);

struct ResidualNorm {
  at::Tensor sum;         ///< [T, d] R: x + branch + branch_bias; x itself if there is no branch
  at::Tensor y;           ///< [T, d] C
  at::Tensor statistics;  ///< float32 [T, 2]: mean, 1 / deviation
};
/// Layer norm of the residual stream with what the block before has not added to it yet (branch [T, d] C and
/// its bias [d] C, or both undefined).
[[nodiscard]] ResidualNorm residual_norm_forward(const at::Tensor& x, const at::Tensor& branch,
                                                 const at::Tensor& branch_bias, const at::Tensor& weight,
                                                 const at::Tensor& bias, double eps);

struct ResidualNormSums {
  at::Tensor weight;       ///< float32 [d]
  at::Tensor bias;         ///< float32 [d]
  at::Tensor branch_bias;  ///< float32 [d], or undefined: there is no branch
};
struct ResidualGradient {
  at::Tensor x;       ///< [T, d] R
  at::Tensor branch;  ///< [T, d] C, x's value rounded (x itself if R is C); undefined if there is no branch
};
/// dy [T, d] C; dsum [T, d] R: the gradient that reaches the sum past the norm, or undefined (zero).
[[nodiscard]] ResidualGradient residual_norm_backward(const at::Tensor& dy, const at::Tensor& dsum,
                                                      const at::Tensor& sum, const at::Tensor& weight,
                                                      const at::Tensor& statistics,
                                                      const ResidualNormSums& sums,
                                                      ColumnSums* later = nullptr);

struct GeluNorm {
  at::Tensor y;           ///< [T, h] C, contiguous
  at::Tensor statistics;  ///< float32 [T, 2]
};
/// norm(gelu(input)), input [T, h] C.
[[nodiscard]] GeluNorm gelu_norm_forward(const at::Tensor& input, const at::Tensor& weight,
                                         const at::Tensor& bias, double eps);
/// The same into given memory, y also into `again` [T, h] C, contiguous, unless that is undefined.
void gelu_norm_forward_into(const GeluNorm& out, const at::Tensor& again, const at::Tensor& input,
                            const at::Tensor& weight, const at::Tensor& bias, double eps);

struct GeluNormSums {
  at::Tensor weight;      ///< float32 [h]
  at::Tensor bias;        ///< float32 [h]
  at::Tensor input_bias;  ///< float32 [h]: of the input's gradient over rows
};
/// dy [T, h] C -> dinput [T, h] C, written to a half of a wider matrix.
void gelu_norm_backward(const at::Tensor& dy, const at::Tensor& input, const at::Tensor& weight,
                        const at::Tensor& statistics, const at::Tensor& dinput, const GeluNormSums& sums,
                        ColumnSums* later = nullptr);

/// gelu(input) * (mixed + bias[position]): input [T, h] C, mixed [T, h] C, bias [n] C or undefined (zero);
/// row r is position r mod n. Returns [T, h] C, contiguous.
[[nodiscard]] at::Tensor gate_forward(const at::Tensor& input, const at::Tensor& mixed,
                                      const at::Tensor& bias, std::int64_t positions);

struct GateSums {
  at::Tensor position_bias;  ///< float32 [n]: of dmixed over batch and columns
  at::Tensor input_bias;     ///< float32 [h]: of dinput over rows
};
struct GateGradient {
  at::Tensor mixed;  ///< [T, h] C, contiguous
  at::Tensor z;      ///< what gate_forward returns, so that nobody needs to keep it: one write more of a pass
                     ///< that has read everything
};
/// dz [T, h] C -> the gradient of mixed; dinput [T, h] C is written to a half of a wider matrix.
[[nodiscard]] GateGradient gate_backward(const at::Tensor& dz, const at::Tensor& input,
                                         const at::Tensor& mixed, const at::Tensor& bias,
                                         std::int64_t positions, const at::Tensor& dinput,
                                         const GateSums& sums, ColumnSums* later = nullptr);

}  // namespace sluice::kernels
