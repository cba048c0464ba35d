#include "trainer/kernels/spatial_mixing.h"

#include <ATen/ops/baddbmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/tril.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <utility>
#include <vector>

#include "trainer/kernels/autograd.h"
#include "trainer/kernels/spatial.h"
#include "trainer/kernels/toeplitz.h"

namespace sluice::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What backward needs beside what autograd keeps.
struct ToeplitzCall : torch::CustomClassHolder {
  ToeplitzCall(at::Tensor weights_, Mixing mixing_)
      : weights(std::move(weights_)), adds(has_gradient_sum(weights)), mixing(mixing_) {}
  at::Tensor weights;
  bool adds;  ///< its gradient where it is summed: then autograd does not know of it
  Mixing mixing;
};

/// W v of a Toeplitz W, which is not made, forward or backward.
class ToeplitzProduct : public torch::autograd::Function<ToeplitzProduct> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate_BTc,
                            const std::optional<at::Tensor>& /*weights*/,
                            const c10::intrusive_ptr<ToeplitzCall>& call) {
    context->save_for_backward({gate_BTc});
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    return spatial_product(gate_BTc, call->weights, call->mixing);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor gate_BTc = context->get_saved_variables().front();
    const auto call =
        c10::static_intrusive_pointer_cast<ToeplitzCall>(context->saved_data["call"].toCapsule());
    const at::Tensor& weights = call->weights;
    const at::Tensor dmixed_BTc = gradients[0].contiguous();
    const auto wide = at::promote_types(weights.scalar_type(), at::kFloat);
    const at::Tensor sum =
        call->adds ? gradient_sum(weights) : at::zeros(weights.sizes(), weights.options().dtype(wide));
    add_spatial_weight_gradient({sum}, dmixed_BTc, gate_BTc, call->mixing);
    if (call->adds) gradient_added(weights);
    return {spatial_input_gradient(dmixed_BTc, weights, {}, call->mixing),
            call->adds ? at::Tensor() : sum.to(weights.scalar_type()), at::Tensor()};
  }
};

at::Tensor toeplitz_mixed(const at::Tensor& weights, const at::Tensor& bias_T, const at::Tensor& gate_BTc,
                          Mixing mixing) {
  const auto call = c10::make_intrusive<ToeplitzCall>(weights, mixing);
  return ToeplitzProduct::apply(gate_BTc, call->adds ? std::nullopt : std::optional(weights), call)
      .add(bias_T.unsqueeze(1));
}

/// W repeated for each sequence by a zero stride: input and result of a batched product keep their layout.
at::Tensor free_mixed(const at::Tensor& weight_nn, const at::Tensor& bias_T, const at::Tensor& gate_BTc,
                      Mixing mixing) {
  const std::int64_t positions = gate_BTc.size(1);
  const at::Tensor weight_TT = weight_nn.narrow(0, 0, positions).narrow(1, 0, positions);
  const at::Tensor masked_TT = mixing == Mixing::kCausal ? at::tril(weight_TT) : weight_TT;
  return at::baddbmm(bias_T.unsqueeze(1), masked_TT.expand({gate_BTc.size(0), positions, positions}),
                     gate_BTc);
}

/// By the W of one head.
at::Tensor mixed_by(const at::Tensor& weight, const at::Tensor& bias_n, const at::Tensor& gate_BTc,
                    Mixing mixing) {
  const at::Tensor bias_T = bias_n.narrow(0, 0, gate_BTc.size(1));
  return is_toeplitz(weight) ? toeplitz_mixed(weight, bias_T, gate_BTc, mixing)
                             : free_mixed(weight, bias_T, gate_BTc, mixing);
}

/// Row T - 1 of W[..., :T, :T].
at::Tensor last_row(std::int64_t positions, const SpatialMix& mix) {
  if (mix.kind == SpatialKind::kFree) return mix.weight.select(-2, positions - 1).narrow(-1, 0, positions);
  return mix.weight.narrow(-1, toeplitz_positions(mix.weight) - positions, positions);
}

std::int64_t channels_of_head(std::int64_t channels, const SpatialMix& mix) {
  TORCH_CHECK(mix.heads >= 1 && channels % mix.heads == 0, mix.heads, " heads do not divide ", channels,
              " channels");
  return channels / mix.heads;
}

}  // namespace

at::Tensor mix_positions(const at::Tensor& gate_BTc, const SpatialMix& mix) {
  if (mix.heads == 1) return mixed_by(mix.weight, mix.bias, gate_BTc, mix.mixing);
  const auto groups = gate_BTc.split(channels_of_head(gate_BTc.size(2), mix), 2);
  const auto weights = mix.weight.unbind(0);
  const auto biases = mix.bias.unbind(0);
  std::vector<at::Tensor> mixed;
  for (std::size_t head = 0; head < groups.size(); ++head)
    mixed.push_back(mixed_by(weights[head], biases[head], groups[head], mix.mixing));
  return at::cat(mixed, 2);
}

at::Tensor mix_last_position(const at::Tensor& gate_Tc, const SpatialMix& mix) {
  const std::int64_t positions = gate_Tc.size(0);
  const at::Tensor row = last_row(positions, mix);
  const at::Tensor bias = mix.bias.select(-1, positions - 1);
  if (mix.heads == 1) return at::mv(gate_Tc.t(), row).add_(bias);
  const auto groups = gate_Tc.split(channels_of_head(gate_Tc.size(1), mix), 1);
  std::vector<at::Tensor> mixed;
  for (std::size_t head = 0; head < groups.size(); ++head) {
    const auto at_head = static_cast<std::int64_t>(head);
    mixed.push_back(at::mv(groups[head].t(), row.select(0, at_head)).add_(bias.select(0, at_head)));
  }
  return at::cat(mixed);
}

}  // namespace sluice::kernels
