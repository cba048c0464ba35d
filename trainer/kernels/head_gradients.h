#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "trainer/kernels/gradient_sum.h"

// Gradients of a vocabulary's matrix [V, d], straight into the float32 sum of a rounded leaf. The device
// seam: head_gradients_cuda.cpp, or a twin that throws in a build without CUDA sources.
namespace sluice::kernels {

/// Tokens by their values, equal ones in their own order.
struct SortedTokens {
  /// Room for tokens [T] int64 on a GPU, of a vocabulary of so many. Throws c10::Error for other tensors.
  SortedTokens(const at::Tensor& tokens_T, std::int64_t vocabulary);
  /// Sorts them, each in [0, vocabulary), on the current stream.
  void sort() const;

  at::Tensor tokens_T;
  std::int64_t vocabulary;
  at::Tensor pairs;  ///< int32 [4, T]: tokens and their places, then both sorted
  at::Tensor workspace;
};

/// sum[tokens[t]] += gradient[t] for every t: sum [V, d] float32, gradient [T, d] float32 or bfloat16,
/// contiguous and on the tokens' GPU, d a multiple of 4. Equal tokens are added up in the order of t by
/// pieces of fixed size, so that the bits depend on the arguments alone. Throws c10::Error for other tensors.
void add_embedding_gradient(const at::Tensor& sum_Vd, const SortedTokens& sorted,
                            const at::Tensor& gradient_Td);
[[nodiscard]] bool has_embedding_gradient(const at::Tensor& sum_Vd, const at::Tensor& gradient_Td);

/// sum += scale * values: float32 of one shape, contiguous and on one GPU, a multiple of 4 elements; scale a
/// float32 scalar there. Throws c10::Error for other tensors.
void add_scaled(const GradientSum& into, const at::Tensor& values, const at::Tensor& scale);
/// scale * values, rounded once to bfloat16; otherwise as above.
[[nodiscard]] at::Tensor scaled_bf16(const at::Tensor& values, const at::Tensor& scale);

}  // namespace sluice::kernels
