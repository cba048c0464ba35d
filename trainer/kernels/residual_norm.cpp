#include "trainer/kernels/residual_norm.h"

#include <ATen/ops/_unsafe_view.h>
#include <ATen/ops/layer_norm.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "trainer/kernels/autograd.h"
#include "trainer/kernels/fused_passes.h"

namespace sluice::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What backward needs beside what autograd keeps: the leaves whose gradients it adds up itself.
struct Leaves : torch::CustomClassHolder {
  at::Tensor weight;
  at::Tensor bias;
  at::Tensor branch_bias;
};

class ResidualNormFunction : public torch::autograd::Function<ResidualNormFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x_BTd,
                               const std::optional<at::Tensor>& branch_Td,
                               const c10::intrusive_ptr<Leaves>& leaves, double eps) {
    const at::Tensor branch = branch_Td.value_or(at::Tensor());
    const ResidualNorm out = residual_norm_forward(x_BTd.view({-1, x_BTd.size(-1)}), branch,
                                                   leaves->branch_bias, leaves->weight, leaves->bias, eps);
    // Not a view: autograd would ask where it came from.
    const at::Tensor sum_BTd = branch.defined() ? at::_unsafe_view(out.sum, x_BTd.sizes()) : x_BTd;
    context->set_materialize_grads(false);
    context->save_for_backward({sum_BTd, out.statistics});
    context->saved_data["leaves"] = c10::IValue::make_capsule(leaves);
    return {out.y, sum_BTd};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto leaves = c10::static_intrusive_pointer_cast<Leaves>(context->saved_data["leaves"].toCapsule());
    const at::Tensor& sum_BTd = saved[0];
    const std::int64_t width = sum_BTd.size(-1);
    const bool adds = leaves->branch_bias.defined();
    const at::Tensor dsum =
        gradients[1].defined() ? gradients[1].contiguous().view({-1, width}) : at::Tensor();
    const ResidualGradient out = residual_norm_backward(
        gradients[0].contiguous(), dsum, sum_BTd.view({-1, width}), leaves->weight, saved[1],
        {gradient_sum(leaves->weight), gradient_sum(leaves->bias),
         adds ? gradient_sum(leaves->branch_bias) : at::Tensor()});
    gradient_added(leaves->bias);
    gradient_added(leaves->weight);
    if (adds) gradient_added(leaves->branch_bias);
    return {out.x.view(sum_BTd.sizes()), out.branch, at::Tensor(), at::Tensor()};
  }
};

NormedStream by_aten(const ResidualStream& in, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  at::Tensor sum = in.x_BTd;
  if (in.branch_Td.defined()) sum = sum.add(in.branch_Td.add(in.branch_bias_d).view(sum.sizes()));
  return {layer_norm(sum, weight, bias, eps).view({-1, sum.size(-1)}), sum};
}

}  // namespace

NormedStream residual_norm(const ResidualStream& in, const at::Tensor& weight, const at::Tensor& bias,
                           double eps) {
  std::vector<at::Tensor> parameters = {weight, bias};
  if (in.branch_Td.defined()) parameters.push_back(in.branch_bias_d);
  if (!has_fused_passes(in.x_BTd, weight.scalar_type(), {in.x_BTd.size(-1)}) || !gradients_add_up(parameters))
    return by_aten(in, weight, bias, eps);
  auto leaves = c10::make_intrusive<Leaves>();
  leaves->weight = weight;
  leaves->bias = bias;
  std::optional<at::Tensor> branch;
  if (in.branch_Td.defined()) {
    branch = in.branch_Td;
    leaves->branch_bias = in.branch_bias_d;
  }
  const variable_list out = ResidualNormFunction::apply(in.x_BTd, branch, leaves, eps);
  return {out[0], out[1]};
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  const at::ScalarType type = x.scalar_type();
  return at::layer_norm(x, {x.size(-1)}, weight.to(type), bias.to(type), eps).to(weight.scalar_type());
}

}  // namespace sluice::kernels
