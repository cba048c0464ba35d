#include "trainer/kernels/fused_transformer.h"

#include <ATen/ops/_unsafe_view.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <utility>
#include <vector>

#include "trainer/kernels/autograd.h"
#include "trainer/kernels/flash_attention.h"
#include "trainer/kernels/fused_passes.h"
#include "trainer/kernels/left_gradients.h"
#include "trainer/kernels/mlp_passes.h"
#include "trainer/kernels/products.h"

namespace sluice::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The block and the stream's pending bias, as backward finds them again.
struct TransformerCall : torch::CustomClassHolder {
  TransformerBlock block;
  at::Tensor branch_bias;
};

/// What lies between the stages of one forward; rows are batch x positions.
struct TransformerValues {
  ResidualNorm before_attention;
  at::Tensor qkv_Te;  ///< e = 3 d
  FlashAttention attention;
  ResidualNorm before_mlp;
  at::Tensor expanded_Tf;
  at::Tensor hidden_Tf;
};

GeluForm form_of(const TransformerBlock& block) {
  return block.activation == Activation::kGeluTanh ? GeluForm::kTanh : GeluForm::kExact;
}

/// Queries, keys and values [B, H, T, k].
std::vector<at::Tensor> heads_of(const at::Tensor& qkv_Te, const TransformerBlock& block,
                                 std::int64_t batch) {
  std::vector<at::Tensor> heads;
  for (const at::Tensor& part : qkv_Te.chunk(3, 1))
    heads.push_back(part.unflatten(1, {block.heads, -1}).unflatten(0, {batch, -1}).transpose(1, 2));
  return heads;
}

/// [B, H, T, k], in memory as [B, T, H, k] -> [B T, d].
at::Tensor rows_of(const at::Tensor& heads_BHTk) {
  const at::Tensor positions = heads_BHTk.transpose(1, 2);
  return positions.reshape({positions.size(0) * positions.size(1), -1});
}

void attend_all(const TransformerBlock& block, std::int64_t batch, TransformerValues& values) {
  values.qkv_Te = linear(values.before_attention.y, block.qkv.weight, block.qkv.bias);
  const auto heads = heads_of(values.qkv_Te, block, batch);
  values.attention = flash_attention(heads[0], heads[1], heads[2], block.mixing);
}

void expand(const TransformerBlock& block, TransformerValues& values) {
  const at::Tensor branch_Td = linear(rows_of(values.attention.out_BHTk), block.out.weight, at::Tensor());
  const Norm& norm = block.mlp_norm;
  values.before_mlp = residual_norm_forward(values.before_attention.sum, branch_Td, block.out.bias,
                                            norm.weight, norm.bias, norm.eps);
  values.expanded_Tf = linear(values.before_mlp.y, block.expand.weight, block.expand.bias);
  values.hidden_Tf = gelu_forward(values.expanded_Tf, form_of(block));
}

/// Everything up to the contraction.
TransformerValues run_stages(const ResidualStream& in, const TransformerBlock& block) {
  const Norm& norm = block.attention_norm;
  TransformerValues values;
  values.before_attention = residual_norm_forward(in.x_BTd.view({-1, in.x_BTd.size(2)}), in.branch_Td,
                                                  in.branch_bias_d, norm.weight, norm.bias, norm.eps);
  attend_all(block, in.x_BTd.size(0), values);
  expand(block, values);
  return values;
}

variable_list kept_values(const TransformerValues& v, Recompute recompute) {
  if (recompute == Recompute::kBlock) return {v.before_attention.sum};
  variable_list kept = {v.before_attention.sum,
                        v.before_attention.y,
                        v.before_attention.statistics,
                        v.qkv_Te,
                        v.attention.out_BHTk,
                        v.before_mlp.sum,
                        v.before_mlp.y,
                        v.before_mlp.statistics,
                        v.expanded_Tf,
                        v.hidden_Tf};
  kept.insert(kept.end(), v.attention.kept.begin(), v.attention.kept.end());
  return kept;
}

TransformerValues restored_values(const variable_list& saved, const TransformerBlock& block,
                                  std::int64_t batch) {
  if (block.recompute == Recompute::kBlock)
    return run_stages({saved[0].unflatten(0, {batch, -1}), {}, {}}, block);
  return {.before_attention = {saved[0], saved[1], saved[2]},
          .qkv_Te = saved[3],
          .attention = {saved[4], {saved.begin() + 10, saved.end()}},
          .before_mlp = {saved[5], saved[6], saved[7]},
          .expanded_Tf = saved[8],
          .hidden_Tf = saved[9]};
}

/// The weight's gradient is added up and announced, the bias's is left; returns the input's.
at::Tensor linear_backward(const Linear& layer, const at::Tensor& dy_To, const at::Tensor& x_Ti,
                           LeftGradients& left) {
  add_linear_weight_gradient(taken_sum(layer.weight), dy_To, x_Ti);
  gradient_added(layer.weight);
  left.leaves.push_back(layer.bias);
  return linear_input_gradient(dy_To, layer.weight);
}

/// To what was added up by the norm whose `branch_bias` (or undefined) came before it.
ResidualGradient norm_backward(const Norm& norm, const ResidualNorm& forward, const at::Tensor& dy_Td,
                               const at::Tensor& dsum_Td, const at::Tensor& branch_bias,
                               LeftGradients& left) {
  const ResidualGradient gradient =
      residual_norm_backward(dy_Td, dsum_Td, forward.sum, norm.weight, forward.statistics,
                             {gradient_sum(norm.weight), gradient_sum(norm.bias),
                              branch_bias.defined() ? gradient_sum(branch_bias) : at::Tensor()},
                             &left.sums);
  left.leaves.insert(left.leaves.end(), {norm.bias, norm.weight});
  return gradient;
}

/// The contraction's gradient -> that of the MLP's norm's result.
at::Tensor back_through_mlp(const at::Tensor& dout_Td, TransformerValues& values,
                            const TransformerBlock& block, LeftGradients& left) {
  add_linear_weight_gradient(taken_sum(block.contract.weight), dout_Td, values.hidden_Tf);
  gradient_added(block.contract.weight);  // its bias is the stream's: whoever adds it up announces it
  values.hidden_Tf.reset();
  const at::Tensor dexpanded_Tf =
      gelu_backward(linear_input_gradient(dout_Td, block.contract.weight), values.expanded_Tf, form_of(block),
                    gradient_sum(block.expand.bias), &left.sums);
  values.expanded_Tf.reset();
  return linear_backward(block.expand, dexpanded_Tf, values.before_mlp.y, left);
}

/// The gradient of attention's branch -> that of its norm's result.
at::Tensor back_through_attention(const at::Tensor& dbranch_Td, const TransformerValues& values,
                                  const TransformerBlock& block, std::int64_t batch, LeftGradients& left) {
  const at::Tensor dattended_Td =
      linear_backward(block.out, dbranch_Td, rows_of(values.attention.out_BHTk), left);
  const auto heads = heads_of(values.qkv_Te, block, batch);
  const at::Tensor dattended_BHTk =
      dattended_Td.unflatten(1, {block.heads, -1}).unflatten(0, {batch, -1}).transpose(1, 2);
  const auto [dq, dk, dv] =
      flash_attention_backward(dattended_BHTk, heads[0], heads[1], heads[2], values.attention, block.mixing);
  const at::Tensor dqkv_Te =
      join_columns({rows_of(dq), rows_of(dk), rows_of(dv)}, gradient_sum(block.qkv.bias), &left.sums);
  return linear_backward(block.qkv, dqkv_Te, values.before_attention.y, left);
}

class FusedTransformer : public torch::autograd::Function<FusedTransformer> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x_BTd,
                               const std::optional<at::Tensor>& branch_Td,
                               const c10::intrusive_ptr<TransformerCall>& call) {
    const ResidualStream in = {x_BTd, branch_Td.value_or(at::Tensor()), call->branch_bias};
    const TransformerValues values = run_stages(in, call->block);
    const at::Tensor out_Td = linear(values.hidden_Tf, call->block.contract.weight, at::Tensor());
    context->set_materialize_grads(false);
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    context->saved_data["batch"] = x_BTd.size(0);
    context->save_for_backward(kept_values(values, call->block.recompute));
    // Not a view: autograd would ask where it came from.
    return {at::_unsafe_view(values.before_mlp.sum, x_BTd.sizes()), out_Td};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto call =
        c10::static_intrusive_pointer_cast<TransformerCall>(context->saved_data["call"].toCapsule());
    const TransformerBlock& block = call->block;
    const std::int64_t batch = context->saved_data["batch"].toInt();
    TransformerValues values = restored_values(context->get_saved_variables(), block, batch);
    const at::Tensor& sum_Td = values.before_mlp.sum;
    const at::Tensor dsum_Td =
        gradients[0].defined() ? gradients[0].contiguous().view(sum_Td.sizes()) : at::Tensor();

    LeftGradients left;
    const at::Tensor dmlp_Td = back_through_mlp(gradients[1].contiguous(), values, block, left);
    const ResidualGradient middle =
        norm_backward(block.mlp_norm, values.before_mlp, dmlp_Td, dsum_Td, block.out.bias, left);
    const at::Tensor dattention_Td = back_through_attention(middle.branch, values, block, batch, left);
    const ResidualGradient out = norm_backward(block.attention_norm, values.before_attention, dattention_Td,
                                               middle.x, call->branch_bias, left);
    if (call->branch_bias.defined()) left.leaves.push_back(call->branch_bias);
    left.finish();
    return {out.x.unflatten(0, {batch, -1}), out.branch, at::Tensor()};
  }
};

bool is_gpt2(const TransformerBlock& block) {
  return block.attention_norm.kind == NormKind::kLayer && block.mlp_norm.kind == NormKind::kLayer &&
         block.attention == AttentionKind::kFull && !block.rotary.cos.defined() &&
         !block.relative.defined() && block.activation != Activation::kSwiGlu && block.exchange == nullptr;
}

}  // namespace

bool has_fused_transformer(const at::Tensor& x_BTd, const TransformerBlock& block) {
  if (!is_gpt2(block) || block.expand.weight.scalar_type() != at::kBFloat16) return false;
  const std::vector<at::Tensor> parameters = {block.attention_norm.weight,
                                              block.attention_norm.bias,
                                              block.qkv.weight,
                                              block.qkv.bias,
                                              block.out.weight,
                                              block.out.bias,
                                              block.mlp_norm.weight,
                                              block.mlp_norm.bias,
                                              block.expand.weight,
                                              block.expand.bias,
                                              block.contract.weight,
                                              block.contract.bias};
  for (const at::Tensor& one : parameters)
    if (!one.defined()) return false;
  const std::int64_t width = x_BTd.size(2);
  return has_fused_passes(x_BTd, at::kBFloat16, {width, 3 * width, block.expand.weight.size(0)}) &&
         has_flash_attention(block.qkv.weight, width / block.heads) && gradients_add_up(parameters);
}

ResidualStream fused_transformer(const ResidualStream& in, const TransformerBlock& block) {
  if (!c10::GradMode::is_enabled()) {
    const TransformerValues values = run_stages(in, block);
    return {values.before_mlp.sum.view(in.x_BTd.sizes()),
            linear(values.hidden_Tf, block.contract.weight, at::Tensor()), block.contract.bias};
  }
  auto call = c10::make_intrusive<TransformerCall>();
  call->block = block;
  std::optional<at::Tensor> branch;
  if (in.branch_Td.defined()) {
    branch = in.branch_Td;
    call->branch_bias = in.branch_bias_d;
  }
  const variable_list out = FusedTransformer::apply(in.x_BTd, branch, call);
  return {out[0], out[1], block.contract.bias};
}

}  // namespace sluice::kernels
