#include "trainer/model/transformer.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <c10/util/Exception.h>

#include <cmath>

#include "trainer/kernels/cross_entropy.h"
#include "trainer/kernels/embedding.h"
#include "trainer/kernels/gmlp_block.h"
#include "trainer/kernels/sharded_attention.h"
#include "trainer/model/parameter_list.h"
#include "trainer/model/parameters.h"
#include "trainer/model/positions.h"

namespace sluice::model {
namespace {

kernels::Activation activation_of(const ModelOptions& options) {
  if (options.mlp == "swiglu") return kernels::Activation::kSwiGlu;
  return options.gelu == "tanh" ? kernels::Activation::kGeluTanh : kernels::Activation::kGelu;
}

}  // namespace

Transformer::Transformer(const ModelOptions& options, std::int64_t vocabulary_size,
                         std::vector<at::Tensor> parameters, Recompute recompute)
    : options_(options) {
  check_parameters(parameter_specs(options, vocabulary_size), parameters);
  TORCH_CHECK(options.dropout >= 0 && options.dropout < 1, "model.dropout is ", options.dropout);
  TORCH_CHECK(recompute != Recompute::kGate, "a Transformer has no gate to compute again");
  ParameterList list(options_, std::move(parameters));
  embedding_ = list.next();
  const auto wide =
      at::TensorOptions(embedding_.device()).dtype(kernels::residual_type(embedding_.scalar_type()));
  if (has_learned_positions(options)) learned_positions_ = list.next();
  if (options.positions == "sinusoidal") fixed_positions_ = sinusoids(options.seq_len, options.d_model, wide);
  kernels::RotaryTable rotary;
  if (options.positions == "rotary")
    rotary =
        kernels::rotary_table(options.seq_len, options.d_model / options.heads, options.rotary_base, wide);
  const bool relative = has_relative_positions(options);
  const auto mixing = options.causal ? kernels::Mixing::kCausal : kernels::Mixing::kFull;
  at::Tensor buckets;
  if (relative) buckets = kernels::relative_buckets(options.seq_len, mixing, wide);
  for (std::int64_t layer = 0; layer < options.layers; ++layer) {
    kernels::TransformerBlock block;
    block.attention_norm = list.next_norm();
    block.qkv = list.next_linear();
    if (relative) block.relative = {list.next(), buckets};
    block.out = list.next_linear();
    block.mlp_norm = list.next_norm();
    block.expand = list.next_linear();
    block.contract = list.next_linear();
    block.heads = options.heads;
    block.attention = options.attention == "positions_only" ? kernels::AttentionKind::kPositionsOnly
                                                            : kernels::AttentionKind::kFull;
    block.rotary = rotary;
    block.activation = activation_of(options);
    block.mixing = mixing;
    block.recompute = recompute;
    block.first_site = kEmbeddingSite + 1 + layer * kernels::kDropoutSites;
    blocks_.push_back(std::move(block));
    last_of_block_.push_back(list.count() - 1);
  }
  final_norm_ = list.next_norm();
  head_weight_ = options.tied ? embedding_ : list.next();
  if (options.head_bias) head_bias_ = list.next();
  parameters_ = list.count();
}

at::Tensor Transformer::embed(const at::Tensor& tokens_BT, const CallPositions& at) const {
  at.check(options_.seq_len);
  at::Tensor x_BTd = kernels::embedding(embedding_, tokens_BT);
  if (options_.scale_embedding) x_BTd = x_BTd.mul(std::sqrt(static_cast<double>(options_.d_model)));
  if (learned_positions_.defined()) x_BTd = x_BTd.add(at.of(learned_positions_));
  if (fixed_positions_.defined()) x_BTd = x_BTd.add(at.of(fixed_positions_));
  return x_BTd;
}

CallPositions Transformer::positions_of(const at::Tensor& tokens_BT,
                                        const kernels::SequenceExchange* exchange) const {
  if (exchange == nullptr) return {0, tokens_BT.size(1)};
  return CallPositions(exchange == exchange_ ? held_t_
                                             : kernels::held_positions(*exchange, embedding_.device()));
}

void Transformer::shard_sequence(const kernels::SequenceExchange* exchange) {
  TORCH_CHECK(exchange == nullptr || exchange->rows().positions() == options_.seq_len,
              "sequences of a model of ", options_.seq_len, " positions");
  TORCH_CHECK(exchange == nullptr || options_.dropout == 0, "dropout cannot share a sequence among ranks");
  exchange_ = exchange;
  held_t_ = exchange ? kernels::held_positions(*exchange, embedding_.device()) : at::Tensor();
}

at::Tensor Transformer::encode(const at::Tensor& tokens_BT, const kernels::Dropout& dropout,
                               const kernels::SequenceExchange* exchange) const {
  announce(learned_positions_.defined() ? 1 : 0);
  const CallPositions at = positions_of(tokens_BT, exchange);
  at::Tensor x_BTd = kernels::dropout(embed(tokens_BT, at), dropout.at(kEmbeddingSite));
  for (std::size_t layer = 0; layer < blocks_.size(); ++layer) {
    announce(last_of_block_[layer]);
    kernels::TransformerBlock block = blocks_[layer];
    block.exchange = exchange;
    if (exchange && block.rotary.cos.defined())
      block.rotary = {at.of(block.rotary.cos), at.of(block.rotary.sin)};
    x_BTd = kernels::transformer_block(x_BTd, block, dropout);
  }
  announce(parameters_ - 1);
  return x_BTd;
}

at::Tensor Transformer::final_norm(const at::Tensor& x_BTd) const {
  return kernels::normalise(x_BTd, final_norm_).y_Td;
}

at::Tensor Transformer::head(const at::Tensor& x_BTd) const {
  const at::Tensor normed = final_norm(x_BTd);
  const at::Tensor logits_TV = head_bias_.defined() ? at::addmm(head_bias_, normed, head_weight_.t())
                                                    : at::mm(normed, head_weight_.t());
  std::vector<std::int64_t> shape = x_BTd.sizes().vec();
  shape.back() = head_weight_.size(0);
  return logits_TV.view(shape);
}

at::Tensor Transformer::logits(const at::Tensor& tokens_BT) const { return head(encode(tokens_BT, {})); }

at::Tensor Transformer::loss_sum(const at::Tensor& tokens_BT, const at::Tensor& targets_BT) const {
  return loss_with(tokens_BT, targets_BT, {});
}

at::Tensor Transformer::training_loss_sum(const at::Tensor& tokens_BT, const at::Tensor& targets_BT,
                                          const at::Tensor& samples_B) const {
  return loss_with(
      tokens_BT, targets_BT,
      {.rate = options_.dropout, .seed = options_.seed, .samples_B = samples_B, .site = kEmbeddingSite},
      exchange_);
}

at::Tensor Transformer::target_losses(const at::Tensor& tokens_BT, const at::Tensor& targets_BT,
                                      const kernels::SequenceExchange* exchange) const {
  const at::NoGradGuard no_grad;
  return kernels::linear_cross_entropy_of_rows(final_norm(encode(tokens_BT, {}, exchange)), head_weight_,
                                               head_bias_, targets_BT.reshape({-1}))
      .view(targets_BT.sizes());
}

at::Tensor Transformer::loss_with(const at::Tensor& tokens_BT, const at::Tensor& targets_BT,
                                  const kernels::Dropout& dropout,
                                  const kernels::SequenceExchange* exchange) const {
  TORCH_CHECK(tokens_BT.sizes() == targets_BT.sizes(), "tokens of shape ", tokens_BT.sizes(),
              ", targets of shape ", targets_BT.sizes());
  return kernels::linear_cross_entropy(final_norm(encode(tokens_BT, dropout, exchange)), head_weight_,
                                       head_bias_, targets_BT.reshape({-1}));
}

}  // namespace sluice::model
