#include "trainer/kernels/fused_passes.h"
#include "trainer/kernels/host_passes.h"

namespace sluice::kernels {

bool has_fused_passes(const at::Tensor& x, at::ScalarType compute, at::IntArrayRef widths) {
  return host::has_passes(x, compute, widths);
}

ResidualNorm residual_norm_forward(const at::Tensor& x, const at::Tensor& branch,
                                   const at::Tensor& branch_bias, const at::Tensor& weight,
                                   const at::Tensor& bias, double eps) {
  return host::residual_norm_forward(x, branch, branch_bias, weight, bias, eps);
}

ResidualGradient residual_norm_backward(const at::Tensor& dy, const at::Tensor& dsum, const at::Tensor& sum,
                                        const at::Tensor& weight, const at::Tensor& statistics,
                                        const ResidualNormSums& sums, ColumnSums* /*later*/) {
  return host::residual_norm_backward(dy, dsum, sum, weight, statistics, sums);
}

GeluNorm gelu_norm_forward(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                           double eps) {
  return host::gelu_norm_forward(input, weight, bias, eps);
}

void gelu_norm_forward_into(const GeluNorm& out, const at::Tensor& again, const at::Tensor& input,
                            const at::Tensor& weight, const at::Tensor& bias, double eps) {
  host::gelu_norm_forward_into(out, again, input, weight, bias, eps);
}

void gelu_norm_backward(const at::Tensor& dy, const at::Tensor& input, const at::Tensor& weight,
                        const at::Tensor& statistics, const at::Tensor& dinput, const GeluNormSums& sums,
                        ColumnSums* /*later*/) {
  host::gelu_norm_backward(dy, input, weight, statistics, dinput, sums);
}

at::Tensor gate_forward(const at::Tensor& input, const at::Tensor& mixed, const at::Tensor& bias,
                        std::int64_t positions) {
  return host::gate_forward(input, mixed, bias, positions);
}

GateGradient gate_backward(const at::Tensor& dz, const at::Tensor& input, const at::Tensor& mixed,
                           const at::Tensor& bias, std::int64_t positions, const at::Tensor& dinput,
                           const GateSums& sums, ColumnSums* /*later*/) {
  return host::gate_backward(dz, input, mixed, bias, positions, dinput, sums);
}

}  // namespace sluice::kernels
