#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace sluice::kernels {

/// Sums over rows that a GPU's passes leave as partial ones, one for each of their blocks, so that those of
/// several passes take one launch: a launch of its own costs each more than its bytes do. Not needed on a
/// CPU, whose passes add up at once.
class ColumnSums {
 public:
  /// into float32 [c] += the sum over rows of partials float32 [r, c], both contiguous: at finish(), in an
  /// order that depends on the shapes alone. Nobody else writes to either until then.
  void add(const at::Tensor& partials_rc, const at::Tensor& into_c);
  /// On the current stream, where the passes ran.
  void finish();

 private:
  struct Sum {
    at::Tensor partials_rc;
    at::Tensor into_c;
  };
  std::vector<Sum> left_;
};

}  // namespace sluice::kernels
