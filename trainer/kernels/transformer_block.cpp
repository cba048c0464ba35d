#include "trainer/kernels/transformer_block.h"

#include <ATen/ops/mm.h>
#include <ATen/ops/rms_norm.h>
#include <c10/util/Exception.h>

#include <vector>

#include "trainer/kernels/autograd.h"
#include "trainer/kernels/residual_norm.h"
#include "trainer/kernels/sharded_attention.h"

namespace sluice::kernels {
namespace {

/// The residual stream with a projection onto it added, and its norm: the one place where the two meet.
NormedStream add_and_normalise(const at::Tensor& x_BTd, const at::Tensor& input_Ti, const Linear& linear,
                               const Dropout& rates, const Norm& norm) {
  if (norm.kind == NormKind::kLayer && linear.bias.defined() && !rates.active())
    return residual_norm({x_BTd, at::mm(input_Ti, linear.weight.t()), linear.bias}, norm.weight, norm.bias,
                         norm.eps);
  const at::Tensor sum = x_BTd.add(dropout(apply(linear, input_Ti), rates).view(x_BTd.sizes()));
  return normalise({sum, {}, {}}, norm);
}

/// Of a block's places.
enum Site : std::int64_t { kSoftmax, kAttentionBranch, kMlpBranch };
static_assert(kMlpBranch + 1 == kDropoutSites);

at::Tensor attend_shared(const Heads& heads, const TransformerBlock& block) {
  at::Tensor bias;
  if (block.relative.defined()) bias = relative_bias(block.relative, block.exchange->rows().positions());
  return sharded_attention(heads.q, heads.k, heads.v, block.mixing, *block.exchange, bias);
}

at::Tensor run_block(const at::Tensor& x_BTd, const TransformerBlock& block, const Dropout& rates) {
  const Heads heads = project_heads(x_BTd, block, 0);
  const at::Tensor attended = block.exchange ? attend_shared(heads, block) : attend(heads, block, rates);
  return finish_block(heads.x_BTd, attended, block, rates);
}

}  // namespace

NormedStream normalise(const ResidualStream& in, const Norm& norm) {
  if (norm.kind == NormKind::kLayer) return residual_norm(in, norm.weight, norm.bias, norm.eps);
  TORCH_CHECK(!in.branch_Td.defined(), "an RMS norm adds no branch to its stream");
  const at::Tensor& x_BTd = in.x_BTd;
  const std::int64_t width = x_BTd.size(-1);
  const at::Tensor y = at::rms_norm(x_BTd, {width}, norm.weight.to(x_BTd.scalar_type()), norm.eps);
  return {y.to(norm.weight.scalar_type()).view({-1, width}), x_BTd};
}

Heads project_heads(const at::Tensor& x_BTd, const TransformerBlock& block, std::int64_t first) {
  const std::int64_t width = x_BTd.size(2);
  const NormedStream stream = normalise({x_BTd, {}, {}}, block.attention_norm);
  const bool values_only = block.attention == AttentionKind::kPositionsOnly;
  const auto parts =
      apply(block.qkv, stream.y_Td)
          .view({x_BTd.size(0), x_BTd.size(1), values_only ? 1 : 3, block.heads, width / block.heads})
          .unbind(2);
  if (values_only) return {{}, {}, parts[0].transpose(1, 2), stream.sum_BTd};
  const auto placed = [&](const at::Tensor& part_BTHk) {
    if (!block.rotary.cos.defined()) return part_BTHk.transpose(1, 2);
    const std::int64_t count = x_BTd.size(1);
    return rotate(part_BTHk,
                  {block.rotary.cos.narrow(0, first, count), block.rotary.sin.narrow(0, first, count)})
        .transpose(1, 2);
  };
  return {placed(parts[0]), placed(parts[1]), parts[2].transpose(1, 2), stream.sum_BTd};
}

at::Tensor attend(const Heads& heads, const TransformerBlock& block, const Dropout& rates) {
  const std::int64_t seen = heads.v.size(2);
  const bool newest = heads.x_BTd.size(1) < seen;  // it sees all that are there
  const Mixing mixing = newest ? Mixing::kFull : block.mixing;
  const Dropout dropped = rates.at(block.first_site + kSoftmax);
  at::Tensor bias;
  if (block.relative.defined())
    bias = newest ? relative_bias_row(block.relative, seen - 1) : relative_bias(block.relative, seen);
  if (block.attention == AttentionKind::kPositionsOnly)
    return attention_by_position(bias, heads.v, mixing, dropped);
  return attention(heads.q, heads.k, heads.v, mixing, dropped, bias);
}

at::Tensor finish_block(const at::Tensor& x_BTd, const at::Tensor& attended_BHTk,
                        const TransformerBlock& block, const Dropout& rates) {
  const at::Tensor attended = attended_BHTk.transpose(1, 2).reshape({-1, x_BTd.size(2)});
  const NormedStream stream = add_and_normalise(
      x_BTd, attended, block.out, rates.at(block.first_site + kAttentionBranch), block.mlp_norm);
  const at::Tensor hidden = activate(apply(block.expand, stream.y_Td), block.activation);
  const at::Tensor branch = dropout(apply(block.contract, hidden), rates.at(block.first_site + kMlpBranch));
  return stream.sum_BTd.add(branch.view(x_BTd.sizes()));
}

at::Tensor transformer_block(const at::Tensor& x_BTd, const TransformerBlock& block, const Dropout& rates) {
  if (block.recompute != Recompute::kBlock) return run_block(x_BTd, block, rates);
  return recompute(
      [block, rates](const std::vector<at::Tensor>& inputs) { return run_block(inputs[0], block, rates); },
      {x_BTd});
}

}  // namespace sluice::kernels
