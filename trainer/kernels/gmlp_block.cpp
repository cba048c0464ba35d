#include "trainer/kernels/gmlp_block.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/tril.h>

namespace sluice::kernels {
namespace {

at::Tensor linear(const at::Tensor& input_Ti, const at::Tensor& weight_oi, const at::Tensor& bias_o) {
  return at::addmm(bias_o, input_Ti, weight_oi.t());
}

}  // namespace

GateHalves gate_halves(const at::Tensor& x_BTd, const GmlpBlock& block) {
  const std::int64_t batch = x_BTd.size(0);
  const std::int64_t positions = x_BTd.size(1);
  const std::int64_t width = x_BTd.size(2);
  const std::int64_t half = block.gate_norm_weight.size(0);
  const at::Tensor normed =
      at::layer_norm(x_BTd, {width}, block.norm_weight, block.norm_bias, block.norm_eps).view({-1, width});
  // Two products, one for each half: the halves are then contiguous in forward and backward, and nothing is
  // copied.
  const auto weights = block.expand_weight.split(half);
  const auto biases = block.expand_bias.split(half);
  const at::Tensor bypass = at::gelu(linear(normed, weights[0], biases[0]));
  const at::Tensor gate = at::gelu(linear(normed, weights[1], biases[1]));
  const at::Tensor gate_normed =
      at::layer_norm(gate, {half}, block.gate_norm_weight, block.gate_norm_bias, block.norm_eps);
  return {bypass.view({batch, positions, half}), gate_normed.view({batch, positions, half})};
}

at::Tensor mix_positions(const at::Tensor& gate_BTh, const GmlpBlock& block) {
  const std::int64_t batch = gate_BTh.size(0);
  const std::int64_t positions = gate_BTh.size(1);
  at::Tensor weight = block.spatial_weight.narrow(0, 0, positions).narrow(1, 0, positions);
  if (block.mixing == Mixing::kCausal) weight = at::tril(weight);
  const at::Tensor bias = block.spatial_bias.narrow(0, 0, positions).unsqueeze(1);
  // One batched product with W repeated by a zero stride: input and result keep their layout.
  return at::baddbmm(bias, weight.expand({batch, positions, positions}), gate_BTh);
}

at::Tensor mix_last_position(const at::Tensor& gate_Th, const GmlpBlock& block) {
  const std::int64_t positions = gate_Th.size(0);
  const at::Tensor row = block.spatial_weight.select(0, positions - 1).narrow(0, 0, positions);
  return at::mv(gate_Th.t(), row).add_(block.spatial_bias.select(0, positions - 1));
}

at::Tensor contract(const at::Tensor& x_BTd, const at::Tensor& bypass_BTh, const at::Tensor& mixed_BTh,
                    const GmlpBlock& block) {
  const std::int64_t half = bypass_BTh.size(-1);
  const std::int64_t width = x_BTd.size(-1);
  const at::Tensor gated = bypass_BTh.mul(mixed_BTh).view({-1, half});
  // The product accumulates onto residual and bias: one pass less over the result.
  return x_BTd.view({-1, width})
      .add(block.contract_bias)
      .addmm_(gated, block.contract_weight.t())
      .view(x_BTd.sizes());
}

at::Tensor gmlp_block(const at::Tensor& x_BTd, const GmlpBlock& block) {
  const GateHalves halves = gate_halves(x_BTd, block);
  return contract(x_BTd, halves.bypass_BTh, mix_positions(halves.gate_BTh, block), block);
}

}  // namespace sluice::kernels
