#include "trainer/kernels/mixer_block.h"

#include <ATen/ops/matmul.h>

#include <vector>

#include "trainer/kernels/autograd.h"

namespace sluice::kernels {
namespace {

enum MixerSite : std::int64_t { kTokenBranch, kChannelBranch };
static_assert(kChannelBranch + 1 == kMixerSites);

/// contract(activation(expand(y))) over positions: [B, T, d].
at::Tensor mix_tokens(const at::Tensor& y_BTd, const MixerBlock& block) {
  const std::int64_t length = y_BTd.size(1);
  const at::Tensor hidden_Bsd = at::matmul(block.token_expand.weight.narrow(1, 0, length), y_BTd)
                                    .add(block.token_expand.bias.unsqueeze(1));
  return at::matmul(block.token_contract.weight.narrow(0, 0, length), activate(hidden_Bsd, block.activation))
      .add(block.token_contract.bias.narrow(0, 0, length).unsqueeze(1));
}

at::Tensor run_mixer_block(const at::Tensor& x_BTd, const MixerBlock& block, const Dropout& rates) {
  const NormedStream first = normalise({x_BTd, {}, {}}, block.token_norm);
  const at::Tensor mixed = mix_tokens(first.y_Td.view(x_BTd.sizes()), block);
  const at::Tensor sum =
      first.sum_BTd.add(dropout(mixed.contiguous(), rates.at(block.first_site + kTokenBranch)));
  const NormedStream second = normalise({sum, {}, {}}, block.mlp_norm);
  const at::Tensor hidden = activate(apply(block.expand, second.y_Td), block.activation);
  const at::Tensor branch =
      dropout(apply(block.contract, hidden), rates.at(block.first_site + kChannelBranch));
  return second.sum_BTd.add(branch.view(x_BTd.sizes()));
}

}  // namespace

at::Tensor mixer_block(const at::Tensor& x_BTd, const MixerBlock& block, const Dropout& rates) {
  if (block.recompute != Recompute::kBlock) return run_mixer_block(x_BTd, block, rates);
  return recompute(
      [block, rates](const std::vector<at::Tensor>& inputs) {
        return run_mixer_block(inputs[0], block, rates);
      },
      {x_BTd});
}

}  // namespace sluice::kernels
