#pragma once

#include <ATen/core/Tensor.h>

#include <array>

#include "trainer/kernels/column_sums.h"
#include "trainer/kernels/gelu.h"

// The passes of a Transformer's block between its products, beside those of fused_passes.h, whose words hold
// here, too. Matrices are contiguous, their rows 16-byte aligned.
namespace sluice::kernels {

/// gelu(input), [T, f] C -> [T, f] C.
[[nodiscard]] at::Tensor gelu_forward(const at::Tensor& input, GeluForm form);

/// dy [T, f] C, input [T, f] C -> the input's gradient [T, f] C; input_sum float32 [f] += its sum over rows.
[[nodiscard]] at::Tensor gelu_backward(const at::Tensor& dy, const at::Tensor& input, GeluForm form,
                                       const at::Tensor& input_sum, ColumnSums* later = nullptr);

/// Three [T, d] C side by side: [T, 3 d] C; sum float32 [3 d] += its sum over rows.
[[nodiscard]] at::Tensor join_columns(const std::array<at::Tensor, 3>& parts, const at::Tensor& sum,
                                      ColumnSums* later = nullptr);

}  // namespace sluice::kernels
