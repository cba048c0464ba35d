#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

// The one place for LibTorch's less stable autograd interfaces.
namespace sluice::kernels {

/// A leaf that shares `value`'s memory and accumulates its gradient in place into `gradient` (same shape; kept by autograd
/// because gradient accumulation adds in place outside grad mode).
[[nodiscard]] at::Tensor make_leaf(const at::Tensor& value, const at::Tensor& gradient);

/// Calls `ready` each time a backward has finished accumulating into the leaf's gradient.
void on_gradient_ready(const at::Tensor& leaf, std::function<void()> ready);

}  // namespace sluice::kernels
