#include "trainer/kernels/gmlp_block.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/tanh.h>
#include <c10/util/Exception.h>

#include <utility>
#include <vector>

#include "trainer/kernels/autograd.h"
#include "trainer/kernels/residual_norm.h"
#include "trainer/kernels/sharded_mixing.h"
#include "trainer/kernels/token_shift.h"

namespace sluice::kernels {
namespace {

/// Of a block's draws.
enum BlockSite : std::int64_t { kBranchSite, kSkipSite };
static_assert(kSkipSite + 1 == kGmlpSites);

at::Tensor affine(const at::Tensor& input_Ti, const at::Tensor& weight_oi, const at::Tensor& bias_o) {
  return at::addmm(bias_o, input_Ti, weight_oi.t());
}

at::Tensor gelu_of(const at::Tensor& x, GeluForm form) {
  return form == GeluForm::kTanh ? at::gelu(x, "tanh") : at::gelu(x);
}

/// What is left of a block's input when its first products are done, rows B T.
struct Expanded {
  at::Tensor bypass;  ///< before GELU; undefined where the gate is not split
  at::Tensor gate;    ///< before GELU
  at::Tensor qkv;     ///< of attention; undefined without

  [[nodiscard]] std::vector<at::Tensor> list() const {
    std::vector<at::Tensor> all{gate};
    if (bypass.defined()) all.push_back(bypass);
    if (qkv.defined()) all.push_back(qkv);
    return all;
  }
  static Expanded of(const std::vector<at::Tensor>& list, const GmlpBlock& block) {
    Expanded expanded{.bypass = {}, .gate = list[0], .qkv = {}};
    if (block.variant.gate == GateKind::kSplit) expanded.bypass = list[1];
    if (block.variant.attention.defined()) expanded.qkv = list.back();
    return expanded;
  }
};

Expanded expand(const at::Tensor& input_Td, const GmlpBlock& block) {
  Expanded expanded;
  if (block.variant.gate == GateKind::kSplit) {
    // Two products, one for each half: the halves are then contiguous in forward and backward, and nothing is
    // copied.
    const std::int64_t half = block.contract_weight.size(1);
    const auto weights = block.expand_weight.split(half);
    const auto biases = block.expand_bias.split(half);
    expanded.bypass = affine(input_Td, weights[0], biases[0]);
    expanded.gate = affine(input_Td, weights[1], biases[1]);
  } else {
    expanded.gate = affine(input_Td, block.expand_weight, block.expand_bias);
  }
  if (block.variant.attention.defined()) expanded.qkv = project_qkv(input_Td, block.variant.attention);
  return expanded;
}

GateInputs activate_halves(const Expanded& expanded, std::int64_t batch, const GmlpBlock& block) {
  const std::int64_t channels = expanded.gate.size(1);
  const at::Tensor whole = gelu_of(expanded.gate, block.variant.gelu);
  const at::Tensor normed =
      block.gate_norm_weight.defined()
          ? layer_norm(whole, block.gate_norm_weight, block.gate_norm_bias, block.norm_eps)
          : whole;
  GateInputs inputs{
      .bypass_BTc = {}, .gate_BTc = normed.view({batch, -1, channels}), .qkv_T3a = expanded.qkv};
  if (block.variant.gate == GateKind::kSplit)
    inputs.bypass_BTc = gelu_of(expanded.bypass, block.variant.gelu).view({batch, -1, channels});
  else if (block.variant.gate != GateKind::kLinear)
    inputs.bypass_BTc = whole.view({batch, -1, channels});
  return inputs;
}

at::Tensor activated_gate(const at::Tensor& mixed, const GmlpVariant& variant) {
  switch (variant.gate_activation) {
    case GateActivation::kNone:
      return mixed;
    case GateActivation::kTanh:
      return at::tanh(mixed);
    case GateActivation::kSigmoid:
      return at::sigmoid(mixed);
    case GateActivation::kGelu:
      return gelu_of(mixed, variant.gelu);
    case GateActivation::kRelu:
      return at::relu(mixed);
  }
  TORCH_CHECK(false, "a gate activation of value ", static_cast<int>(variant.gate_activation));
}

/// [B T, c].
at::Tensor gate_of(const at::Tensor& bypass_BTc, const at::Tensor& mixed_BTc, const GmlpBlock& block) {
  const at::Tensor gate = activated_gate(mixed_BTc, block.variant);
  const auto rows = [](const at::Tensor& x_BTc) { return x_BTc.view({-1, x_BTc.size(-1)}); };
  switch (block.variant.gate) {
    case GateKind::kSplit:
    case GateKind::kMultiplicative:
      return rows(bypass_BTc.mul(gate));
    case GateKind::kAdditive:
      return rows(bypass_BTc.add(gate));
    case GateKind::kLinear:
      return rows(gate);
  }
  TORCH_CHECK(false, "a gate of value ", static_cast<int>(block.variant.gate));
}

at::Tensor gate_positions(const Expanded& expanded, std::int64_t batch, const GmlpBlock& block) {
  const GateInputs inputs = activate_halves(expanded, batch, block);
  at::Tensor mixed = block.exchange
                         ? mix_sharded_positions(inputs.gate_BTc, spatial_mix(block), *block.exchange)
                         : mix_positions(inputs.gate_BTc, spatial_mix(block));
  if (const TinyAttention& attention = block.variant.attention; attention.defined())
    mixed = mixed.add(attend(tiny_head(inputs.qkv_T3a, batch), block.mixing, attention, block.exchange)
                          .view(mixed.sizes()));
  return gate_of(inputs.bypass_BTc, mixed, block);
}

/// x + the product of what the gate let through, [B T, c].
at::Tensor project(const at::Tensor& x_BTd, const at::Tensor& gated, const GmlpBlock& block) {
  if (x_BTd.scalar_type() != gated.scalar_type())
    return x_BTd.add(affine(gated, block.contract_weight, block.contract_bias).view(x_BTd.sizes()));
  // The product accumulates onto residual and bias: one pass less over the result.
  return x_BTd.view({-1, x_BTd.size(-1)})
      .add(block.contract_bias)
      .addmm_(gated, block.contract_weight.t())
      .view(x_BTd.sizes());
}

Dropout branch_dropout(const GmlpBlock& block, const Dropout& rates) {
  return rates.at(block.first_site + kBranchSite);
}
Dropout skipping(const GmlpBlock& block, const Dropout& rates) {
  Dropout skip = rates.at(block.first_site + kSkipSite);
  skip.rate = block.skip_rate;
  return skip;
}

at::Tensor project_drawn(const at::Tensor& x_BTd, const at::Tensor& gated, const GmlpBlock& block,
                         const Dropout& rates) {
  at::Tensor branch =
      dropout(affine(gated, block.contract_weight, block.contract_bias), branch_dropout(block, rates))
          .view(x_BTd.sizes());
  // One draw for each sample, of the residual stream's type: the same work, whoever skips.
  if (const Dropout skip = skipping(block, rates); skip.active())
    branch = branch.mul(dropout(at::ones({x_BTd.size(0), 1, 1}, x_BTd.options().requires_grad(false)), skip));
  return x_BTd.add(branch);
}

at::Tensor run_gmlp_block(const at::Tensor& x_BTd, const GmlpBlock& block, const Dropout& rates) {
  const std::int64_t batch = x_BTd.size(0);
  const at::Tensor input = shift_tokens(block_input(x_BTd, block), block.variant.token_shift, block.mixing);
  const Expanded expanded = expand(input.view({-1, x_BTd.size(2)}), block);
  at::Tensor gated;
  if (block.recompute == Recompute::kGate) {
    gated = recompute(
        [block, batch](const std::vector<at::Tensor>& inputs) {
          return gate_positions(Expanded::of(inputs, block), batch, block);
        },
        expanded.list());
  } else {
    gated = gate_positions(expanded, batch, block);
  }
  return draws(block, rates) ? project_drawn(x_BTd, gated, block, rates) : project(x_BTd, gated, block);
}

}  // namespace

at::ScalarType residual_type(at::ScalarType compute) { return residual_type(compute, at::kFloat); }

at::ScalarType residual_type(at::ScalarType compute, at::ScalarType asked) {
  return compute == at::kBFloat16 ? asked : compute;
}

bool is_plain(const GmlpBlock& block) {
  const GmlpVariant& v = block.variant;
  return v.gate == GateKind::kSplit && v.spatial_heads == 1 && v.gate_activation == GateActivation::kNone &&
         v.gelu == GeluForm::kExact && v.token_shift == 0 && !v.attention.defined() &&
         block.gate_norm_weight.defined();
}

bool draws(const GmlpBlock& block, const Dropout& rates) {
  return branch_dropout(block, rates).active() || skipping(block, rates).active();
}

SpatialMix spatial_mix(const GmlpBlock& block) {
  return {.weight = block.spatial_weight,
          .bias = block.spatial_bias,
          .kind = block.variant.spatial,
          .heads = block.variant.spatial_heads,
          .mixing = block.mixing};
}

at::Tensor block_input(const at::Tensor& x_BTd, const GmlpBlock& block) {
  return layer_norm(x_BTd, block.norm_weight, block.norm_bias, block.norm_eps);
}

GateInputs gate_inputs(const at::Tensor& input_BTd, const GmlpBlock& block) {
  return activate_halves(expand(input_BTd.view({-1, input_BTd.size(2)}), block), input_BTd.size(0), block);
}

at::Tensor contract(const at::Tensor& x_BTd, const at::Tensor& bypass_BTc, const at::Tensor& mixed_BTc,
                    const GmlpBlock& block) {
  return project(x_BTd, gate_of(bypass_BTc, mixed_BTc, block), block);
}

at::Tensor gmlp_block(const at::Tensor& x_BTd, const GmlpBlock& block, const Dropout& rates) {
  if (block.recompute != Recompute::kBlock) return run_gmlp_block(x_BTd, block, rates);
  return recompute(
      [block, rates](const std::vector<at::Tensor>& inputs) {
        return run_gmlp_block(inputs[0], block, rates);
      },
      {x_BTd});
}

}  // namespace sluice::kernels
