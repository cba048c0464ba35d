#include "trainer/model/parameter_list.h"

#include <ATen/ops/zeros.h>

namespace sluice::model {

kernels::Norm ParameterList::next_norm() {
  kernels::Norm norm{.kind = options_.norm == "rms" ? kernels::NormKind::kRms : kernels::NormKind::kLayer,
                     .weight = next(),
                     .bias = {},
                     .eps = options_.norm_eps};
  if (norm.kind == kernels::NormKind::kRms) return norm;
  norm.bias =
      options_.bias ? next() : at::zeros(norm.weight.sizes(), norm.weight.options().requires_grad(false));
  return norm;
}

}  // namespace sluice::model
