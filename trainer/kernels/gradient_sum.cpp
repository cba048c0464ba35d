#include "trainer/kernels/gradient_sum.h"

#include <ATen/core/grad_mode.h>

namespace sluice::kernels {

at::Tensor begun_sum(const GradientSum& gradient) {
  const at::NoGradGuard no_grad;
  if (gradient.before == Before::kNothing) gradient.sum.zero_();
  return gradient.sum;
}

}  // namespace sluice::kernels
