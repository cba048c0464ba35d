#include "trainer/kernels/fused_block.h"

#include <ATen/ops/_unsafe_view.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "trainer/kernels/autograd.h"
#include "trainer/kernels/fused_passes.h"
#include "trainer/kernels/left_gradients.h"
#include "trainer/kernels/matrix_gradients.h"
#include "trainer/kernels/products.h"
#include "trainer/kernels/shared_gate.h"
#include "trainer/kernels/spatial.h"

namespace sluice::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The block and the stream's pending bias, as backward finds them again.
struct BlockCall : torch::CustomClassHolder {
  GmlpBlock block;
  at::Tensor branch_bias;
};

/// What lies between the stages of one forward; T rows are batch x positions, halves are columns of
/// `expanded`.
struct Values {
  at::Tensor sum_Td;
  at::Tensor norm_statistics;
  at::Tensor normed_Td;
  at::Tensor expanded_Tf;
  at::Tensor gate_statistics;
  at::Tensor gate_Th;
  SpatialGate spatial;
  std::unique_ptr<SharedGate> shared;  ///< of ranks that share sequences: the gate's input on its way
};

at::Tensor bypass_half(const at::Tensor& expanded_Tf) {
  return expanded_Tf.narrow(1, 0, expanded_Tf.size(1) / 2);
}
at::Tensor gate_half(const at::Tensor& expanded_Tf) {
  const std::int64_t half = expanded_Tf.size(1) / 2;
  return expanded_Tf.narrow(1, half, half);
}

/// Rows [B T, h] at any stride as [B, T, h].
at::Tensor by_sequence(const at::Tensor& rows_Th, std::int64_t batch) {
  return rows_Th.unflatten(0, {batch, -1});
}

at::Tensor channel_linear(const GmlpBlock& block, const at::Tensor& x, const at::Tensor& w,
                          const at::Tensor& bias) {
  return block.products == ChannelProducts::kFp8 ? fp8_linear(x, w, bias) : linear(x, w, bias);
}
at::Tensor channel_input_gradient(const GmlpBlock& block, const at::Tensor& dy, const at::Tensor& w) {
  return block.products == ChannelProducts::kFp8 ? fp8_linear_input_gradient(dy, w)
                                                 : linear_input_gradient(dy, w);
}

void normalise(const ResidualStream& in, const GmlpBlock& block, Values& values) {
  ResidualNorm out =
      residual_norm_forward(in.x_BTd.view({-1, in.x_BTd.size(2)}), in.branch_Td, in.branch_bias_d,
                            block.norm_weight, block.norm_bias, block.norm_eps);
  values.sum_Td = std::move(out.sum);
  values.normed_Td = std::move(out.y);
  values.norm_statistics = std::move(out.statistics);
}

void norm_gate(const GmlpBlock& block, Values& values) {
  GeluNorm gate = gelu_norm_forward(gate_half(values.expanded_Tf), block.gate_norm_weight,
                                    block.gate_norm_bias, block.norm_eps);
  values.gate_Th = std::move(gate.y);
  values.gate_statistics = std::move(gate.statistics);
}

/// norm_gate() on the way to the ranks that share the sequences.
void norm_and_send_gate(const GmlpBlock& block, std::int64_t batch, Values& values) {
  const at::Tensor input_Th = gate_half(values.expanded_Tf);
  const std::int64_t positions = input_Th.size(0) / batch;
  values.gate_Th = at::empty(input_Th.sizes(), input_Th.options());
  values.gate_statistics = at::empty({input_Th.size(0), 2}, input_Th.options().dtype(at::kFloat));
  const auto write = [&](std::int64_t first, std::int64_t count, const at::Tensor& again_Th) {
    const auto rows = [&](const at::Tensor& all) {
      return all.narrow(0, first * positions, count * positions);
    };
    gelu_norm_forward_into({rows(values.gate_Th), rows(values.gate_statistics)}, again_Th, rows(input_Th),
                           block.gate_norm_weight, block.gate_norm_bias, block.norm_eps);
  };
  values.shared = share_gate(by_sequence(values.gate_Th, batch), block.spatial_weight.detach(), block.mixing,
                             *block.exchange, write);
}

void mix(const GmlpBlock& block, std::int64_t batch, Keep keep, Values& values) {
  const at::Tensor bypass_BTh = by_sequence(bypass_half(values.expanded_Tf), batch);
  if (const auto shared = std::move(values.shared)) {
    values.spatial = shared->mix(bypass_BTh, block.spatial_bias, keep);
    if (keep == Keep::kNothing) values.spatial.mixed_BTh.reset();
  } else {
    values.spatial = spatial_gate(by_sequence(values.gate_Th, batch), bypass_BTh, block.spatial_weight,
                                  block.spatial_bias, block.mixing, keep);
  }
}

/// The expansion and what follows up to the contraction; of ranks that share sequences the gate's half first,
/// so that it travels while the other is multiplied.
void expand_and_mix(const GmlpBlock& block, std::int64_t batch, Keep keep, Values& values) {
  if (block.exchange == nullptr) {
    values.expanded_Tf = channel_linear(block, values.normed_Td, block.expand_weight, block.expand_bias);
    norm_gate(block, values);
    return mix(block, batch, keep, values);
  }
  const at::Tensor weight_fd = block.expand_weight.detach();
  const at::Tensor bias_f = block.expand_bias.detach();
  const std::int64_t half = weight_fd.size(0) / 2;
  values.expanded_Tf = at::empty({values.normed_Td.size(0), 2 * half}, values.normed_Td.options());
  const auto expand = [&](std::int64_t first) {
    linear_into(values.expanded_Tf.narrow(1, first, half), values.normed_Td, weight_fd.narrow(0, first, half),
                bias_f.narrow(0, first, half));
  };
  expand(half);
  norm_and_send_gate(block, batch, values);
  expand(0);
  mix(block, batch, keep, values);
}

at::Tensor gated_rows(const Values& values) { return values.spatial.gated_BTh.flatten(0, 1); }

/// Everything up to the contraction.
Values run_forward(const ResidualStream& in, const GmlpBlock& block, Keep keep) {
  Values values;
  normalise(in, block, values);
  expand_and_mix(block, in.x_BTd.size(0), keep, values);
  return values;
}

variable_list kept(Values values, Recompute recompute) {
  if (recompute == Recompute::kBlock) return {values.sum_Td, values.norm_statistics};
  if (recompute == Recompute::kGate)
    return {values.sum_Td, values.norm_statistics, values.normed_Td, values.expanded_Tf};
  return {values.sum_Td,          values.norm_statistics, values.normed_Td,         values.expanded_Tf,
          values.gate_statistics, values.gate_Th,         values.spatial.mixed_BTh, values.spatial.diagonal};
}

Values restored(const variable_list& saved, const GmlpBlock& block, std::int64_t batch) {
  Values values;
  values.sum_Td = saved[0];
  values.norm_statistics = saved[1];
  if (block.recompute == Recompute::kBlock) {
    normalise({by_sequence(saved[0], batch), {}, {}}, block, values);
    expand_and_mix(block, batch, Keep::kMixed, values);
  } else {
    values.normed_Td = saved[2];
    values.expanded_Tf = saved[3];
  }
  if (block.recompute == Recompute::kNone) {
    values.gate_statistics = saved[4];
    values.gate_Th = saved[5];
    values.spatial = {.gated_BTh = {}, .mixed_BTh = saved[6], .diagonal = saved[7]};
  } else if (block.recompute == Recompute::kGate) {
    if (block.exchange == nullptr) {
      norm_gate(block, values);
    } else {
      norm_and_send_gate(block, batch, values);
    }
    mix(block, batch, Keep::kMixed, values);
  }
  values.spatial.gated_BTh.reset();  // gate_backward makes it
  if (block.exchange != nullptr)     // again: what others sent is not kept
    values.shared = share_gate_again(by_sequence(values.gate_Th, batch), block.spatial_weight.detach(),
                                     block.mixing, *block.exchange);
  return values;
}

/// Where the gradient of b of this rank's positions adds up.
struct PositionSums {
  PositionSums(const GmlpBlock& block, std::int64_t positions) : all_n(gradient_sum(block.spatial_bias)) {
    if (block.exchange == nullptr) {
      sums_t = all_n.narrow(0, 0, positions);
    } else {
      strips = block.exchange->rows().strips(block.exchange->rank());
      sums_t = at::zeros({positions}, all_n.options());
    }
  }
  void add() const {
    for (const Strip& strip : strips)
      all_n.narrow(0, strip.range.begin, strip.range.count())
          .add_(sums_t.narrow(0, strip.row, strip.range.count()));
  }

  at::Tensor all_n;
  at::Tensor sums_t;
  std::vector<Strip> strips;  ///< none: sums_t is a view
};

MatrixGradients::When when_to_add(const GmlpBlock& block) {
  return block.leaves_matrices && block.exchange == nullptr ? MatrixGradients::When::kAtTheEnd
                                                            : MatrixGradients::When::kAtOnce;
}

/// W's gradient and that of the gate's input.
at::Tensor back_through_positions(const at::Tensor& dmixed_BTh, Values& values, const GmlpBlock& block,
                                  std::int64_t batch, const MatrixGradients& matrices) {
  const at::Tensor& diagonal = values.spatial.diagonal;
  if (const auto shared = std::move(values.shared))
    return shared->back(taken_sum(block.spatial_weight), dmixed_BTh, diagonal,
                        [&] { gradient_added(block.spatial_weight); });
  matrices.add(block.spatial_weight, [dmixed_BTh, gate_BTh = by_sequence(values.gate_Th, batch),
                                      mixing = block.mixing](const GradientSum& sum) {
    add_spatial_weight_gradient(sum, dmixed_BTh, gate_BTh, mixing);
  });
  return spatial_input_gradient(dmixed_BTh, block.spatial_weight, diagonal, block.mixing);
}

/// The contraction's gradient -> that of `expanded`; small parameters' gradients are left.
at::Tensor back_to_expanded(const at::Tensor& dout_Td, Values& values, const GmlpBlock& block,
                            std::int64_t batch, const MatrixGradients& matrices, LeftGradients& left) {
  at::Tensor dexpanded_Tf = at::empty_like(values.expanded_Tf);
  const at::Tensor of_expand_bias = gradient_sum(block.expand_bias);
  const std::int64_t half = values.gate_Th.size(1);
  const std::int64_t positions = values.gate_Th.size(0) / batch;
  const PositionSums of_bias(block, positions);
  GateGradient of_gate = gate_backward(
      channel_input_gradient(block, dout_Td, block.contract_weight), bypass_half(values.expanded_Tf),
      values.spatial.mixed_BTh.flatten(0, 1), {}, positions, bypass_half(dexpanded_Tf),
      {of_bias.sums_t, of_expand_bias.narrow(0, 0, half)}, &left.sums);
  if (block.exchange != nullptr) {  // beside W, which stays, b alone holds up its bucket
    left.sums.finish();
    of_bias.add();
    gradient_added(block.spatial_bias);
  }
  matrices.add(block.contract_weight, [dout_Td, z = std::move(of_gate.z)](const GradientSum& sum) {
    add_linear_weight_gradient(sum, dout_Td, z);
  });
  const at::Tensor dgate_BTh =
      back_through_positions(by_sequence(of_gate.mixed, batch), values, block, batch, matrices);
  values.spatial = {};
  gelu_norm_backward(dgate_BTh.flatten(0, 1), gate_half(values.expanded_Tf), block.gate_norm_weight,
                     values.gate_statistics, gate_half(dexpanded_Tf),
                     {gradient_sum(block.gate_norm_weight), gradient_sum(block.gate_norm_bias),
                      of_expand_bias.narrow(0, half, half)},
                     &left.sums);
  left.leaves.insert(left.leaves.end(), {block.gate_norm_bias, block.gate_norm_weight, block.expand_bias});
  return dexpanded_Tf;
}

class FusedBlock : public torch::autograd::Function<FusedBlock> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& x_BTd,
                               const std::optional<at::Tensor>& branch_Td,
                               const c10::intrusive_ptr<BlockCall>& call) {
    const GmlpBlock& block = call->block;
    const ResidualStream in = {x_BTd, branch_Td.value_or(at::Tensor()), call->branch_bias};
    Values values =
        run_forward(in, block, block.recompute == Recompute::kNone ? Keep::kMixed : Keep::kNothing);
    const at::Tensor out_Td = channel_linear(block, gated_rows(values), block.contract_weight, at::Tensor());
    // Not a view: autograd would ask where it came from.
    const at::Tensor sum_BTd =
        in.branch_Td.defined() ? at::_unsafe_view(values.sum_Td, x_BTd.sizes()) : x_BTd;
    context->set_materialize_grads(false);
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    context->saved_data["batch"] = x_BTd.size(0);
    context->save_for_backward(kept(std::move(values), block.recompute));
    return {sum_BTd, out_Td};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto call = c10::static_intrusive_pointer_cast<BlockCall>(context->saved_data["call"].toCapsule());
    const GmlpBlock& block = call->block;
    const std::int64_t batch = context->saved_data["batch"].toInt();
    Values values = restored(context->get_saved_variables(), block, batch);
    const at::Tensor dout_Td = gradients[1].contiguous();

    const MatrixGradients matrices(when_to_add(block));
    LeftGradients left;
    const at::Tensor dexpanded_Tf = back_to_expanded(dout_Td, values, block, batch, matrices, left);
    const at::Tensor dnormed_Td = channel_input_gradient(block, dexpanded_Tf, block.expand_weight);
    matrices.add(block.expand_weight, [dexpanded_Tf, normed_Td = values.normed_Td](const GradientSum& sum) {
      add_linear_weight_gradient(sum, dexpanded_Tf, normed_Td);
    });

    const bool adds = call->branch_bias.defined();
    const at::Tensor dsum_Td =
        gradients[0].defined() ? gradients[0].contiguous().view(values.sum_Td.sizes()) : at::Tensor();
    const ResidualGradient out =
        residual_norm_backward(dnormed_Td, dsum_Td, values.sum_Td, block.norm_weight, values.norm_statistics,
                               {gradient_sum(block.norm_weight), gradient_sum(block.norm_bias),
                                adds ? gradient_sum(call->branch_bias) : at::Tensor()},
                               &left.sums);
    left.leaves.insert(left.leaves.end(), {block.norm_bias, block.norm_weight});
    if (adds) left.leaves.push_back(call->branch_bias);
    if (block.exchange == nullptr) left.leaves.push_back(block.spatial_bias);
    left.finish();
    return {by_sequence(out.x, batch), out.branch, at::Tensor()};
  }
};

}  // namespace

bool has_fused_block(const at::Tensor& x_BTd, const GmlpBlock& block) {
  const at::ScalarType type = block.expand_weight.scalar_type();
  const bool shares_toeplitz = block.exchange != nullptr && block.variant.spatial == SpatialKind::kToeplitz;
  return is_plain(block) && !shares_toeplitz &&
         has_fused_passes(x_BTd, type, {block.expand_weight.size(1), block.gate_norm_weight.size(0)}) &&
         gradients_add_up({block.norm_weight, block.norm_bias, block.expand_weight, block.expand_bias,
                           block.gate_norm_weight, block.gate_norm_bias, block.spatial_weight,
                           block.spatial_bias, block.contract_weight, block.contract_bias});
}

ResidualStream fused_block(const ResidualStream& in, const GmlpBlock& block) {
  if (!c10::GradMode::is_enabled()) {
    const Values values = run_forward(in, block, Keep::kNothing);
    return {values.sum_Td.view(in.x_BTd.sizes()),
            channel_linear(block, gated_rows(values), block.contract_weight, at::Tensor()),
            block.contract_bias};
  }
  auto call = c10::make_intrusive<BlockCall>();
  call->block = block;
  std::optional<at::Tensor> branch;
  if (in.branch_Td.defined()) {
    branch = in.branch_Td;
    call->branch_bias = in.branch_bias_d;
  }
  const variable_list out = FusedBlock::apply(in.x_BTd, branch, call);
  return {out[0], out[1], block.contract_bias};
}

}  // namespace sluice::kernels
