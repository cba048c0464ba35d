#include "trainer/kernels/block_passes.h"

#include <ATen/ops/layer_norm.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "trainer/kernels/block_kernels.h"

namespace sluice::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class NormPass : public torch::autograd::Function<NormPass> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias, double eps) {
    NormForward out = norm_forward(x, weight, bias, eps);
    context->save_for_backward({x, weight, out.statistics});
    return out.y;
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    NormBackward out = norm_backward(gradients[0].contiguous(), saved[0], saved[1], saved[2]);
    return {out.x, out.weight, out.bias, at::Tensor()};
  }
};

class GatePass : public torch::autograd::Function<GatePass> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& u, const at::Tensor& s,
                            const at::Tensor& bias) {
    context->save_for_backward({u, s, bias});
    return gate_forward(u, s, bias);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    GateBackward out = gate_backward(gradients[0].contiguous(), saved[0], saved[1], saved[2]);
    return {out.u, out.s, out.bias};
  }
};

}  // namespace

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  if (has_norm_kernel(x, weight)) return NormPass::apply(x, weight, bias, eps);
  const at::ScalarType type = x.scalar_type();
  return at::layer_norm(x, {x.size(-1)}, weight.to(type), bias.to(type), eps).to(weight.scalar_type());
}

at::Tensor gate(const at::Tensor& u_BTh, const at::Tensor& s_BTh, const at::Tensor& bias_T) {
  return GatePass::apply(u_BTh, s_BTh, bias_T);
}

}  // namespace sluice::kernels
