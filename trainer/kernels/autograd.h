#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "trainer/kernels/gradient_sum.h"

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

/// In place of zeroing a rounded leaf's gradient: whatever is there, the next backward that adds to it finds
/// zeros, or writes over it where that is cheaper (taken_sum). Throws c10::Error for another leaf.
void forget_gradient(const at::Tensor& leaf);

/// The memory into which backwards add the gradient of a leaf made above, a sum so far; undefined for any
/// other tensor.
[[nodiscard]] at::Tensor gradient_sum(const at::Tensor& leaf);

[[nodiscard]] bool has_gradient_sum(const at::Tensor& leaf);
/// Of a rounded leaf: what a function adds there itself, in place of giving autograd a gradient of its input,
/// is not rounded first.
[[nodiscard]] bool has_wider_sum(const at::Tensor& leaf);

/// The same for a backward that adds to it next, and can write over what was forgotten.
[[nodiscard]] GradientSum taken_sum(const at::Tensor& leaf);

/// Says that a backward has itself added its gradient of the leaf, all of it, to gradient_sum: calls what
/// on_gradient_ready was given.
void gradient_added(const at::Tensor& leaf);

/// Within a backward: runs `work`, which records nothing, once all else of that backward is done, before it
/// returns.
void at_the_end_of_backward(std::function<void()> work);

/// Whether a backward may do so for all of these: each has a gradient_sum, or nothing records and none wants
/// a gradient.
[[nodiscard]] bool gradients_add_up(const std::vector<at::Tensor>& leaves);

/// A segment of forward: the tensors that it reads from other segments -> its result, a new tensor.
using Segment = std::function<at::Tensor(const std::vector<at::Tensor>& inputs)>;

/// segment(inputs), of which backward keeps the inputs alone: it runs the segment again, then back-propagates
/// into the inputs and into the leaves that the segment uses. Such a leaf is used nowhere else, so that its
/// callback still comes once for each backward. Plain segment(inputs) where nothing records, that is under a
/// NoGradGuard or if no input requires a gradient.
[[nodiscard]] at::Tensor recompute(Segment segment, const std::vector<at::Tensor>& inputs);

}  // namespace sluice::kernels
