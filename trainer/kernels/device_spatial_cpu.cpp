#include <c10/util/Exception.h>

#include "trainer/kernels/device_spatial.h"

namespace sluice::kernels {

std::int64_t spatial_kernel_rows(const c10::Device& /*device*/, c10::ScalarType /*type*/) { return 0; }

bool has_spatial_kernel(const at::Tensor& /*values_BTh*/, const at::Tensor& /*square_nn*/) { return false; }

at::Tensor spatial_diagonal(const at::Tensor& /*weight_nn*/, std::int64_t /*positions*/, Mixing /*mixing*/) {
  TORCH_CHECK(false, "spatial product: this build has no GPU code");
}

void device_spatial_gate(const at::Tensor& /*gate_BTh*/, const at::Tensor& /*bypass_BTh*/,
                         const at::Tensor& /*weight_nn*/, const at::Tensor& /*diagonal*/,
                         const at::Tensor& /*bias_n*/, Mixing /*mixing*/, const at::Tensor& /*mixed_BTh*/,
                         const at::Tensor& /*gated_BTh*/) {
  TORCH_CHECK(false, "spatial product: this build has no GPU code");
}

at::Tensor device_spatial_input_gradient(const at::Tensor& /*dmixed_BTh*/, const at::Tensor& /*weight_nn*/,
                                         const at::Tensor& /*diagonal*/, Mixing /*mixing*/) {
  TORCH_CHECK(false, "spatial product: this build has no GPU code");
}

void add_device_spatial_weight_gradient(const at::Tensor& /*sum_nn*/, const at::Tensor& /*dmixed_BTh*/,
                                        const at::Tensor& /*gate_BTh*/, Mixing /*mixing*/) {
  TORCH_CHECK(false, "spatial product: this build has no GPU code");
}

}  // namespace sluice::kernels
