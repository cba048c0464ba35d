#include "trainer/kernels/spatial_mixing.h"

#include <ATen/ops/baddbmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/tril.h>
#include <c10/util/Exception.h>

#include <vector>

#include "trainer/kernels/toeplitz.h"

namespace sluice::kernels {
namespace {

/// W[..., :T, :T], masked if causal.
at::Tensor spatial_weights(std::int64_t positions, const SpatialMix& mix) {
  const at::Tensor weight = mix.kind == SpatialKind::kToeplitz
                                ? toeplitz(mix.weight, positions)
                                : mix.weight.narrow(-2, 0, positions).narrow(-1, 0, positions);
  return mix.mixing == Mixing::kCausal ? at::tril(weight) : weight;
}

/// W repeated for each sequence by a zero stride: input and result of a batched product keep their layout.
at::Tensor mixed_by(const at::Tensor& weight_TT, const at::Tensor& bias_T, const at::Tensor& gate_BTc) {
  const std::int64_t positions = gate_BTc.size(1);
  return at::baddbmm(bias_T.unsqueeze(1), weight_TT.expand({gate_BTc.size(0), positions, positions}),
                     gate_BTc);
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
  const std::int64_t positions = gate_BTc.size(1);
  const at::Tensor weight = spatial_weights(positions, mix);
  const at::Tensor bias = mix.bias.narrow(-1, 0, positions);
  if (mix.heads == 1) return mixed_by(weight, bias, gate_BTc);
  const auto groups = gate_BTc.split(channels_of_head(gate_BTc.size(2), mix), 2);
  const auto weights = weight.unbind(0);
  const auto biases = bias.unbind(0);
  std::vector<at::Tensor> mixed;
  for (std::size_t head = 0; head < groups.size(); ++head)
    mixed.push_back(mixed_by(weights[head], biases[head], groups[head]));
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
