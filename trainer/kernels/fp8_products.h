#pragma once

#include <ATen/core/Tensor.h>

// The products of products.h with operands rounded to 8 bits (Micikevicius et al. 2022): values in e4m3,
// gradients in e5m2. Each operand is multiplied before by the largest power of two that keeps all of it in
// range, found anew for every product: nothing is remembered between steps. Sums in fp32; those of gradients
// are carried on at full width as the tensor cores' own are not. T: rows, i: inputs, o: outputs.
namespace sluice::kernels {

/// What multiplies in a block's channel products.
enum class ChannelProducts { kFull, kFp8 };

/// Whether the GPU multiplies in fp8 (compute capability 8.9 and up).
[[nodiscard]] bool has_fp8_products(at::Device device);

/// y [T, o] = x [T, i] w^T (+ bias): bfloat16, contiguous, i and o multiples of 16. Throws c10::Error for
/// others, and where has_fp8_products is false. An operand that is not finite makes all of y NaN.
[[nodiscard]] at::Tensor fp8_linear(const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias);

/// dx [T, i] = dy [T, o] w likewise.
[[nodiscard]] at::Tensor fp8_linear_input_gradient(const at::Tensor& dy, const at::Tensor& w);

}  // namespace sluice::kernels
