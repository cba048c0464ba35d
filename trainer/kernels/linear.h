#pragma once

#include <ATen/core/Tensor.h>

// Products over the last dimension, and what stands between an MLP's two, by ATen operators that record
// autograd.
namespace sluice::kernels {

/// bias [out] is undefined where there is none.
struct Linear {
  at::Tensor weight;  ///< [out, in]
  at::Tensor bias;
};
/// [T, in] -> [T, out].
[[nodiscard]] at::Tensor apply(const Linear& linear, const at::Tensor& input_Ti);

enum class Activation {
  kGelu,      ///< by the error function
  kGeluTanh,  ///< its approximation by tanh, as GPT-2 has it
  kSwiGlu,    ///< silu(first half) * second half (Shazeer 2020)
};
/// Halves are those of the last dimension.
[[nodiscard]] at::Tensor activate(const at::Tensor& expanded, Activation activation);

}  // namespace sluice::kernels
