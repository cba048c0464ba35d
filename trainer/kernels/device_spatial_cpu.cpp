#include <c10/util/Exception.h>

#include "trainer/kernels/device_spatial.h"

namespace sluice::kernels {
namespace {

[[noreturn]] void refuse() { TORCH_CHECK(false, "spatial product: this build has no GPU code"); }

}  // namespace

std::int64_t spatial_kernel_rows(const c10::Device& /*device*/, c10::ScalarType /*type*/) { return 0; }

bool has_spatial_kernel(const at::Tensor& /*values_BTh*/, const at::Tensor& /*square_nn*/) { return false; }
bool has_spatial_kernel(const std::vector<Strip>& /*strips*/) { return false; }

SpatialPart whole_part(const at::Tensor& /*values_BTh*/, Mixing /*mixing*/) { refuse(); }

at::Tensor spatial_diagonal(const at::Tensor& /*weight_tn*/, const SpatialPart& /*part*/) { refuse(); }

void device_spatial_gate(const SpatialGateTensors& /*tensors*/, const SpatialPart& /*part*/) { refuse(); }

void device_spatial_input_gradient(const at::Tensor& /*dgate*/, const at::Tensor& /*dmixed_Bth*/,
                                   const at::Tensor& /*weight_tn*/, const at::Tensor& /*diagonal*/,
                                   const at::Tensor& /*added_Brh*/, const SpatialPart& /*part*/) {
  refuse();
}

void add_device_spatial_weight_gradient(const GradientSum& /*sum_tn*/, const at::Tensor& /*dmixed_Bth*/,
                                        const at::Tensor& /*gate*/, const SpatialPart& /*part*/) {
  refuse();
}

}  // namespace sluice::kernels
