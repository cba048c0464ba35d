#pragma once

#include <functional>

#include "trainer/kernels/autograd.h"

namespace sluice::kernels {

/// The gradients of a block's matrices, each announced when it is done: at once, or together at the end of
/// backward.
class MatrixGradients {
 public:
  enum class When { kAtOnce, kAtTheEnd };
  explicit MatrixGradients(When when) : when_(when) {}

  /// `add` is given where the leaf's gradient adds up.
  void add(const at::Tensor& leaf, const std::function<void(const GradientSum&)>& add) const {
    const auto work = [leaf, add] {
      add(taken_sum(leaf));
      gradient_added(leaf);
    };
    if (when_ == When::kAtOnce)
      work();
    else
      at_the_end_of_backward(work);
  }

 private:
  When when_;
};

}  // namespace sluice::kernels
