#include <c10/util/Exception.h>

#include "trainer/kernels/fp8_products.h"

namespace sluice::kernels {

bool has_fp8_products(at::Device /*device*/) { return false; }

at::Tensor fp8_linear(const at::Tensor& /*x*/, const at::Tensor& /*w*/, const at::Tensor& /*bias*/) {
  TORCH_CHECK(false, "this build has no CUDA sources");
}

at::Tensor fp8_linear_input_gradient(const at::Tensor& /*dy*/, const at::Tensor& /*w*/) {
  TORCH_CHECK(false, "this build has no CUDA sources");
}

}  // namespace sluice::kernels
