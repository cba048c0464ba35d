#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

// The one place for LibTorch's less stable autograd interfaces.
namespace sluice::kernels {

/// A leaf that shares `value`'s memory and accumulates its gradient in place into `gradient` (same shape,
/// dtype and device): two backward calls add up there, and a caller who zeroes that memory zeroes the
/// gradient. The memory stays the gradient's as long as backward records no graph of its own (no
/// create_graph). Throws c10::Error if the two do not match.
[[nodiscard]] at::Tensor make_leaf(const at::Tensor& value, const at::Tensor& gradient);

/// A leaf of lower precision than its gradient: a backward's gradient comes in the leaf's dtype and is added
/// to `gradient` (float32, the leaf's shape and device) at once, then dropped. Otherwise as above.
[[nodiscard]] at::Tensor make_rounded_leaf(const at::Tensor& value, const at::Tensor& gradient);

/// Calls `ready` each time a backward has finished accumulating into the leaf's gradient: once for each
/// backward that reaches the leaf, however often forward used it. Runs on the thread of the backward. One
/// callback for each leaf; throws c10::Error for a tensor that is no leaf, or that has a callback already.
void on_gradient_ready(const at::Tensor& leaf, std::function<void()> ready);

}  // namespace sluice::kernels
