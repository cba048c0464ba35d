#pragma once

#include <ATen/core/Tensor.h>

// The device seam of cross_entropy.cpp: cross_entropy_rows_cuda.cpp, or a twin that throws in a build without
// CUDA sources.
namespace sluice::kernels {

/// For each row of logits_RV (float32 or float64 on a GPU, contiguous): losses_R = -log softmax(row)[target]
/// in the logits' type, and, if defined, gradient_RV (the logits' type or bfloat16; may be logits_RV itself)
/// = softmax(row) - onehot(target). Both zero where the target is kIgnoredTarget, NaN where it is out of
/// range.
void cross_entropy_rows(const at::Tensor& logits_RV, const at::Tensor& targets_R, const at::Tensor& losses_R,
                        const at::Tensor& gradient_RV);

}  // namespace sluice::kernels
