#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/kernels/gradient_sum.h"

// The products of a linear layer, without autograd. T: rows, i: inputs, o: outputs. Matrices are row-major:
// the columns of a row are adjacent, rows may lie further apart than they are wide. On a GPU bfloat16 goes
// through cuBLASLt, summed in fp32 throughout and with the same bits each time, where rows begin at multiples
// of 16 bytes; everything else goes through ATen.
namespace sluice::kernels {

/// y [T, o] = x [T, i] w^T (+ bias), w [o, i], bias [o] or undefined; all of one type.
[[nodiscard]] at::Tensor linear(const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias);
/// The same into y, which overlaps no operand; without a bias y may be float32 where x and w are bfloat16.
void linear_into(const at::Tensor& y, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias);

/// dx [T, i] = dy [T, o] w.
[[nodiscard]] at::Tensor linear_input_gradient(const at::Tensor& dy, const at::Tensor& w);
/// The same into dx, which overlaps no operand and may be float32 where dy and w are bfloat16.
void linear_input_gradient_into(const at::Tensor& dx, const at::Tensor& dy, const at::Tensor& w);

/// sum [o, i] += dy^T x; sum float32 (or dy's type if that is float32 or float64).
void add_linear_weight_gradient(const GradientSum& sum_oi, const at::Tensor& dy, const at::Tensor& x);

}  // namespace sluice::kernels
