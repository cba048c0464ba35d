#include "trainer/kernels/fused_passes.h"

#include <c10/util/Exception.h>

namespace sluice::kernels {
namespace {

[[noreturn]] void refuse_fused_pass() { TORCH_CHECK(false, "this build has no CUDA sources"); }

}  // namespace

bool has_fused_passes(const at::Tensor& /*x*/, at::ScalarType /*compute*/, at::IntArrayRef /*widths*/) {
  return false;
}

ResidualNorm residual_norm_forward(const at::Tensor& /*x*/, const at::Tensor& /*branch*/,
                                   const at::Tensor& /*branch_bias*/, const at::Tensor& /*weight*/,
                                   const at::Tensor& /*bias*/, double /*eps*/) {
  refuse_fused_pass();
}

ResidualGradient residual_norm_backward(const at::Tensor& /*dy*/, const at::Tensor& /*dsum*/,
                                        const at::Tensor& /*sum*/, const at::Tensor& /*weight*/,
                                        const at::Tensor& /*statistics*/, const ResidualNormSums& /*sums*/) {
  refuse_fused_pass();
}

GeluNorm gelu_norm_forward(const at::Tensor& /*input*/, const at::Tensor& /*weight*/,
                           const at::Tensor& /*bias*/, double /*eps*/) {
  refuse_fused_pass();
}

void gelu_norm_forward_into(const GeluNorm& /*out*/, const at::Tensor& /*again*/, const at::Tensor& /*input*/,
                            const at::Tensor& /*weight*/, const at::Tensor& /*bias*/, double /*eps*/) {
  refuse_fused_pass();
}

void gelu_norm_backward(const at::Tensor& /*dy*/, const at::Tensor& /*input*/, const at::Tensor& /*weight*/,
                        const at::Tensor& /*statistics*/, const at::Tensor& /*dinput*/,
                        const GeluNormSums& /*sums*/) {
  refuse_fused_pass();
}

at::Tensor gate_forward(const at::Tensor& /*input*/, const at::Tensor& /*mixed*/, const at::Tensor& /*bias*/,
                        std::int64_t /*positions*/) {
  refuse_fused_pass();
}

GateGradient gate_backward(const at::Tensor& /*dz*/, const at::Tensor& /*input*/, const at::Tensor& /*mixed*/,
                           const at::Tensor& /*bias*/, std::int64_t /*positions*/,
                           const at::Tensor& /*dinput*/, const GateSums& /*sums*/) {
  refuse_fused_pass();
}

}  // namespace sluice::kernels
