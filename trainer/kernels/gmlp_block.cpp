#include "trainer/kernels/gmlp_block.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/tril.h>

#include <vector>

#include "trainer/kernels/autograd.h"
#include "trainer/kernels/residual_norm.h"

namespace sluice::kernels {
namespace {

at::Tensor affine(const at::Tensor& input_Ti, const at::Tensor& weight_oi, const at::Tensor& bias_o) {
  return at::addmm(bias_o, input_Ti, weight_oi.t());
}

/// Both halves before GELU, [B T, h] each.
struct Expanded {
  at::Tensor bypass;
  at::Tensor gate;
};

Expanded expand(const at::Tensor& x_BTd, const GmlpBlock& block) {
  const std::int64_t half = block.gate_norm_weight.size(0);
  const at::Tensor normed =
      layer_norm(x_BTd, block.norm_weight, block.norm_bias, block.norm_eps).view({-1, x_BTd.size(2)});
  // Two products, one for each half: the halves are then contiguous in forward and backward, and nothing is
  // copied.
  const auto weights = block.expand_weight.split(half);
  const auto biases = block.expand_bias.split(half);
  return {affine(normed, weights[0], biases[0]), affine(normed, weights[1], biases[1])};
}

GateHalves activate(const Expanded& expanded, std::int64_t batch, const GmlpBlock& block) {
  const std::int64_t half = expanded.gate.size(1);
  const at::Tensor bypass = at::gelu(expanded.bypass);
  const at::Tensor gate_normed =
      layer_norm(at::gelu(expanded.gate), block.gate_norm_weight, block.gate_norm_bias, block.norm_eps);
  return {bypass.view({batch, -1, half}), gate_normed.view({batch, -1, half})};
}

/// x + the product of what the gate let through, [B T, h].
at::Tensor project(const at::Tensor& x_BTd, const at::Tensor& gated, const GmlpBlock& block) {
  if (x_BTd.scalar_type() != gated.scalar_type())
    return x_BTd.add(affine(gated, block.contract_weight, block.contract_bias).view(x_BTd.sizes()));
  // The product accumulates onto residual and bias: one pass less over the result.
  return x_BTd.view({-1, x_BTd.size(-1)})
      .add(block.contract_bias)
      .addmm_(gated, block.contract_weight.t())
      .view(x_BTd.sizes());
}

at::Tensor gate_of(const at::Tensor& bypass_BTh, const at::Tensor& mixed_BTh) {
  return bypass_BTh.mul(mixed_BTh).view({-1, bypass_BTh.size(-1)});
}

/// W[:T, :T], masked if causal, repeated for each sequence by a zero stride: input and result of a batched
/// product keep their layout.
at::Tensor spatial_weights(std::int64_t batch, std::int64_t positions, const GmlpBlock& block) {
  at::Tensor weight = block.spatial_weight.narrow(0, 0, positions).narrow(1, 0, positions);
  if (block.mixing == Mixing::kCausal) weight = at::tril(weight);
  return weight.expand({batch, positions, positions});
}

at::Tensor gate_positions(const Expanded& expanded, std::int64_t batch, const GmlpBlock& block) {
  const GateHalves halves = activate(expanded, batch, block);
  return gate_of(halves.bypass_BTh, mix_positions(halves.gate_BTh, block));
}

at::Tensor run_block(const at::Tensor& x_BTd, const GmlpBlock& block) {
  const std::int64_t batch = x_BTd.size(0);
  const Expanded expanded = expand(x_BTd, block);
  if (block.recompute != Recompute::kGate)
    return project(x_BTd, gate_positions(expanded, batch, block), block);
  const auto segment = [block, batch](const std::vector<at::Tensor>& halves) {
    return gate_positions({halves[0], halves[1]}, batch, block);
  };
  return project(x_BTd, recompute(segment, {expanded.bypass, expanded.gate}), block);
}

}  // namespace

at::ScalarType residual_type(at::ScalarType compute) {
  return compute == at::kBFloat16 ? at::kFloat : compute;
}

GateHalves gate_halves(const at::Tensor& x_BTd, const GmlpBlock& block) {
  return activate(expand(x_BTd, block), x_BTd.size(0), block);
}

at::Tensor mix_positions(const at::Tensor& gate_BTh, const GmlpBlock& block) {
  const std::int64_t batch = gate_BTh.size(0);
  const std::int64_t positions = gate_BTh.size(1);
  const at::Tensor bias = block.spatial_bias.narrow(0, 0, positions).unsqueeze(1);
  return at::baddbmm(bias, spatial_weights(batch, positions, block), gate_BTh);
}

at::Tensor mix_last_position(const at::Tensor& gate_Th, const GmlpBlock& block) {
  const std::int64_t positions = gate_Th.size(0);
  const at::Tensor row = block.spatial_weight.select(0, positions - 1).narrow(0, 0, positions);
  return at::mv(gate_Th.t(), row).add_(block.spatial_bias.select(0, positions - 1));
}

at::Tensor contract(const at::Tensor& x_BTd, const at::Tensor& bypass_BTh, const at::Tensor& mixed_BTh,
                    const GmlpBlock& block) {
  return project(x_BTd, gate_of(bypass_BTh, mixed_BTh), block);
}

at::Tensor gmlp_block(const at::Tensor& x_BTd, const GmlpBlock& block) {
  if (block.recompute != Recompute::kBlock) return run_block(x_BTd, block);
  return recompute([block](const std::vector<at::Tensor>& inputs) { return run_block(inputs[0], block); },
                   {x_BTd});
}

}  // namespace sluice::kernels
