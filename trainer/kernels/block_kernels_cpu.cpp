#include "trainer/kernels/block_kernels.h"

#include <c10/util/Exception.h>

namespace sluice::kernels {
namespace {

[[noreturn]] void refuse_block_kernel() { TORCH_CHECK(false, "this build has no CUDA sources"); }

}  // namespace

bool has_norm_kernel(const at::Tensor& /*x*/, const at::Tensor& /*weight*/) { return false; }
bool has_gate_kernel(const at::Tensor& /*u*/) { return false; }

NormForward norm_forward(const at::Tensor& /*x*/, const at::Tensor& /*weight*/, const at::Tensor& /*bias*/,
                         double /*eps*/) {
  refuse_block_kernel();
}
NormBackward norm_backward(const at::Tensor& /*dy*/, const at::Tensor& /*x*/, const at::Tensor& /*weight*/,
                           const at::Tensor& /*statistics*/) {
  refuse_block_kernel();
}
at::Tensor gate_forward(const at::Tensor& /*u*/, const at::Tensor& /*s*/, const at::Tensor& /*bias*/) {
  refuse_block_kernel();
}
GateBackward gate_backward(const at::Tensor& /*dz*/, const at::Tensor& /*u*/, const at::Tensor& /*s*/,
                           const at::Tensor& /*bias*/) {
  refuse_block_kernel();
}

}  // namespace sluice::kernels
