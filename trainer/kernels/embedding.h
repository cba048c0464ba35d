#pragma once

#include <ATen/core/Tensor.h>

namespace sluice::kernels {

/// Rows of weight_Vd by tokens (int64, any shape, in [0, V)): [..., d] in the residual stream's type
/// (residual_type, asked for `residual`). Backward adds up the rows' gradients in that type, or in the type
/// of the leaf's sum where that is wider than the leaf, in an order that depends on the tokens alone: the
/// same bits on every run, on a GPU too.
[[nodiscard]] at::Tensor embedding(const at::Tensor& weight_Vd, const at::Tensor& tokens,
                                   at::ScalarType residual = at::kFloat);

}  // namespace sluice::kernels
