#pragma once

#include <vector>

#include "trainer/kernels/autograd.h"
#include "trainer/kernels/column_sums.h"

namespace sluice::kernels {

/// Small parameters whose gradients the passes of a block's backward leave to one launch at its end, and that
/// are announced then.
struct LeftGradients {
  ColumnSums sums;
  std::vector<at::Tensor> leaves;

  void finish() {
    sums.finish();
    for (const at::Tensor& leaf : leaves) gradient_added(leaf);
    leaves.clear();
  }
};

}  // namespace sluice::kernels
