#pragma once

#include <ATen/core/Tensor.h>

namespace sluice::kernels {

/// The residual stream between blocks: its value is x + branch + branch_bias. A block leaves its result as a
/// branch, and whoever reads the stream next adds it on the way: one pass less over the stream.
struct ResidualStream {
  at::Tensor x_BTd;          ///< contiguous, of residual_type
  at::Tensor branch_Td;      ///< [B T, d], of the parameters' type; undefined: nothing is to be added
  at::Tensor branch_bias_d;  ///< a leaf (autograd.h)
};

struct NormedStream {
  at::Tensor y_Td;     ///< [B T, d], of weight's type
  at::Tensor sum_BTd;  ///< the stream's value, of its type
};
/// The stream's value and its layer norm, statistics in float32 at least. On a GPU, if the parameters'
/// gradients add up in memory of their own (autograd.h), by one pass (fused_passes.h), otherwise by ATen.
[[nodiscard]] NormedStream residual_norm(const ResidualStream& in, const at::Tensor& weight,
                                         const at::Tensor& bias, double eps);

/// Layer norm over the last dimension by ATen, statistics in x's type, the result in weight's.
[[nodiscard]] at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                    double eps);

}  // namespace sluice::kernels
