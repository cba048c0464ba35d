#pragma once

#include <ATen/core/Tensor.h>

// A block's elementwise passes as CUDA kernels that read and write each tensor once. In a build without CUDA
// has_norm_kernel and has_gate_kernel are false and the rest throws c10::Error.
namespace sluice::kernels {

/// x [..., width] float32 or bfloat16 on a GPU, weight in x's type or bfloat16, and a width that there is a
/// kernel for.
[[nodiscard]] bool has_norm_kernel(const at::Tensor& x, const at::Tensor& weight);

struct NormForward {
  at::Tensor y;           ///< x's shape, weight's type
  at::Tensor statistics;  ///< float32 [rows, 2]
};
[[nodiscard]] NormForward norm_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                       double eps);

struct NormBackward {
  at::Tensor x;
  at::Tensor weight;
  at::Tensor bias;
};
[[nodiscard]] NormBackward norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                                         const at::Tensor& statistics);

/// u, s [B, T, h], bias [T], float32 or bfloat16 on a GPU, h a multiple of 4.
[[nodiscard]] bool has_gate_kernel(const at::Tensor& u);
[[nodiscard]] at::Tensor gate_forward(const at::Tensor& u, const at::Tensor& s, const at::Tensor& bias);

struct GateBackward {
  at::Tensor u;
  at::Tensor s;
  at::Tensor bias;
};
[[nodiscard]] GateBackward gate_backward(const at::Tensor& dz, const at::Tensor& u, const at::Tensor& s,
                                         const at::Tensor& bias);

}  // namespace sluice::kernels
