#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/kernels/mixing.h"

// The spatial gating unit's products as own kernels for GPUs of compute capability 9.0 (spatial.cu). Shapes
// as in spatial.h, bfloat16. In a build without CUDA has_spatial_kernel is false and the rest throws
// c10::Error.
namespace sluice::kernels {

/// Rows of W that a kernel's product takes at once; 0: there are none for the type on this device, or no such
/// device.
[[nodiscard]] std::int64_t spatial_kernel_rows(const c10::Device& device, c10::ScalarType type);

/// Whether there are kernels for bfloat16 values [B, T, h] and W, or the sum of its gradients: h and rows of
/// W at multiples of 8, everything 16-byte aligned.
[[nodiscard]] bool has_spatial_kernel(const at::Tensor& values_BTh, const at::Tensor& square_nn);

/// W's blocks on the diagonal as the products read them; undefined for Mixing::kFull.
[[nodiscard]] at::Tensor spatial_diagonal(const at::Tensor& weight_nn, std::int64_t positions, Mixing mixing);

/// Writes u's gate into `gated_BTh` and W v + b into `mixed_BTh`, if that is defined.
void device_spatial_gate(const at::Tensor& gate_BTh, const at::Tensor& bypass_BTh,
                         const at::Tensor& weight_nn, const at::Tensor& diagonal, const at::Tensor& bias_n,
                         Mixing mixing, const at::Tensor& mixed_BTh, const at::Tensor& gated_BTh);

[[nodiscard]] at::Tensor device_spatial_input_gradient(const at::Tensor& dmixed_BTh,
                                                       const at::Tensor& weight_nn,
                                                       const at::Tensor& diagonal, Mixing mixing);

void add_device_spatial_weight_gradient(const at::Tensor& sum_nn, const at::Tensor& dmixed_BTh,
                                        const at::Tensor& gate_BTh, Mixing mixing);

}  // namespace sluice::kernels
