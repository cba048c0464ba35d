#include "trainer/kernels/transformer_block.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/silu.h>
#include <c10/util/Exception.h>

#include <vector>

#include "trainer/kernels/autograd.h"
#include "trainer/kernels/residual_norm.h"

namespace sluice::kernels {
namespace {

at::Tensor apply(const Linear& linear, const at::Tensor& input_Ti) {
  return linear.bias.defined() ? at::addmm(linear.bias, input_Ti, linear.weight.t())
                               : at::mm(input_Ti, linear.weight.t());
}

struct Summed {
  at::Tensor sum_BTd;
  at::Tensor normed_Td;
};

/// The residual stream with a branch added, and its norm: the one place where the two meet.
Summed add_and_normalise(const at::Tensor& x_BTd, const at::Tensor& branch_Td, const Norm& norm) {
  const at::Tensor sum = x_BTd.add(branch_Td.view(x_BTd.sizes()));
  return {sum, normalise(sum, norm).view({-1, sum.size(2)})};
}

at::Tensor activate(const at::Tensor& expanded_Tf, Activation activation) {
  switch (activation) {
    case Activation::kGelu:
      return at::gelu(expanded_Tf);
    case Activation::kGeluTanh:
      return at::gelu(expanded_Tf, "tanh");
    case Activation::kSwiGlu: {
      const auto halves = expanded_Tf.split(expanded_Tf.size(1) / 2, 1);
      return at::silu(halves[0]).mul(halves[1]);
    }
  }
  TORCH_CHECK(false, "an activation of value ", static_cast<int>(activation));
}

/// Of a block's places.
enum Site : std::int64_t { kSoftmax, kAttentionBranch, kMlpBranch };
static_assert(kMlpBranch + 1 == kDropoutSites);

at::Tensor run_block(const at::Tensor& x_BTd, const TransformerBlock& block, const Dropout& rates) {
  const Heads heads = project_heads(x_BTd, block, 0);
  const at::Tensor attended =
      attention(heads.q, heads.k, heads.v, block.mixing, rates.at(block.first_site + kSoftmax));
  return finish_block(x_BTd, attended, block, rates);
}

}  // namespace

at::Tensor normalise(const at::Tensor& x, const Norm& norm) {
  if (norm.kind == NormKind::kLayer)
    return residual_norm({x, {}, {}}, norm.weight, norm.bias, norm.eps).y_Td.view(x.sizes());
  return at::rms_norm(x, {x.size(-1)}, norm.weight.to(x.scalar_type()), norm.eps)
      .to(norm.weight.scalar_type());
}

Heads project_heads(const at::Tensor& x_BTd, const TransformerBlock& block, std::int64_t first) {
  const std::int64_t width = x_BTd.size(2);
  const at::Tensor normed = normalise(x_BTd, block.attention_norm).view({-1, width});
  const auto parts = apply(block.qkv, normed)
                         .view({x_BTd.size(0), x_BTd.size(1), 3, block.heads, width / block.heads})
                         .unbind(2);
  const auto placed = [&](const at::Tensor& part_BTHk) {
    if (!block.rotary.cos.defined()) return part_BTHk.transpose(1, 2);
    const std::int64_t count = x_BTd.size(1);
    return rotate(part_BTHk,
                  {block.rotary.cos.narrow(0, first, count), block.rotary.sin.narrow(0, first, count)})
        .transpose(1, 2);
  };
  return {placed(parts[0]), placed(parts[1]), parts[2].transpose(1, 2)};
}

at::Tensor finish_block(const at::Tensor& x_BTd, const at::Tensor& attended_BHTk,
                        const TransformerBlock& block, const Dropout& rates) {
  const at::Tensor attended = attended_BHTk.transpose(1, 2).reshape({-1, x_BTd.size(2)});
  const at::Tensor mixed = dropout(apply(block.out, attended), rates.at(block.first_site + kAttentionBranch));
  const Summed summed = add_and_normalise(x_BTd, mixed, block.mlp_norm);
  const at::Tensor hidden = activate(apply(block.expand, summed.normed_Td), block.activation);
  const at::Tensor branch = dropout(apply(block.contract, hidden), rates.at(block.first_site + kMlpBranch));
  return summed.sum_BTd.add(branch.view(x_BTd.sizes()));
}

at::Tensor transformer_block(const at::Tensor& x_BTd, const TransformerBlock& block, const Dropout& rates) {
  if (block.recompute != Recompute::kBlock) return run_block(x_BTd, block, rates);
  return recompute(
      [block, rates](const std::vector<at::Tensor>& inputs) { return run_block(inputs[0], block, rates); },
      {x_BTd});
}

}  // namespace sluice::kernels
