#include "trainer/model/gmlp.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "trainer/kernels/cross_entropy.h"
#include "trainer/kernels/embedding.h"
#include "trainer/kernels/fused_block.h"
#include "trainer/kernels/sharded_attention.h"
#include "trainer/model/parameters.h"
#include "trainer/model/positions.h"

namespace sluice::model {
namespace {

kernels::GateKind gate_of(const ModelOptions& options) {
  if (options.gate == "split") return kernels::GateKind::kSplit;
  if (options.gate == "multiplicative") return kernels::GateKind::kMultiplicative;
  return options.gate == "additive" ? kernels::GateKind::kAdditive : kernels::GateKind::kLinear;
}

kernels::GateActivation gate_activation_of(const ModelOptions& options) {
  using enum kernels::GateActivation;
  if (options.gate_activation == "tanh") return kTanh;
  if (options.gate_activation == "sigmoid") return kSigmoid;
  if (options.gate_activation == "gelu") return kGelu;
  if (options.gate_activation == "relu") return kRelu;
  TORCH_CHECK(options.gate_activation == "none", "model.gate_activation is ", options.gate_activation);
  return kNone;
}

kernels::GmlpVariant variant_of(const ModelOptions& options) {
  return {.gate = gate_of(options),
          .spatial =
              options.spatial == "toeplitz" ? kernels::SpatialKind::kToeplitz : kernels::SpatialKind::kFree,
          .spatial_heads = options.spatial_heads,
          .gate_activation = gate_activation_of(options),
          .gelu = options.gelu == "tanh" ? kernels::GeluForm::kTanh : kernels::GeluForm::kExact,
          .token_shift = options.token_shift,
          .attention = {}};
}

/// A block without its parameters.
kernels::GmlpBlock block_of(const ModelOptions& options, std::int64_t layer, const Computing& computing) {
  kernels::GmlpBlock block;
  block.mixing = options.causal ? kernels::Mixing::kCausal : kernels::Mixing::kFull;
  block.norm_eps = options.norm_eps;
  block.recompute = computing.recompute;
  block.products = computing.products;
  block.variant = variant_of(options);
  block.skip_rate =
      options.stochastic_depth * static_cast<double>(layer + 1) / static_cast<double>(options.layers);
  block.first_site = kEmbeddingSite + 1 + layer * kernels::kGmlpSites;
  // What a block that is computed again makes for its gradients is memory that recompute is there to save.
  const std::int64_t late = late_blocks(options);
  block.leaves_matrices =
      layer < (computing.recompute == kernels::Recompute::kNone ? late : std::min<std::int64_t>(late, 1));
  return block;
}

/// In the order of parameter_specs, each of the block's parameters from `next`.
template <typename Next>
void take_parameters(const ModelOptions& options, kernels::GmlpBlock& block, const Next& next) {
  const bool attends = options.tiny_attention > 0;
  kernels::TinyAttention& attention = block.variant.attention;
  block.norm_weight = next();
  block.norm_bias = next();
  block.expand_weight = next();
  block.expand_bias = next();
  if (attends) attention.qkv_weight = next();
  if (attends && options.tiny_attention_qkv_bias) attention.qkv_bias = next();
  if (options.gate_norm) {
    block.gate_norm_weight = next();
    block.gate_norm_bias = next();
  }
  block.spatial_weight = next();
  block.spatial_bias = next();
  if (attends) {
    attention.out_weight = next();
    attention.out_bias = next();
  }
  block.contract_weight = next();
  block.contract_bias = next();
}

}  // namespace

Gmlp::Gmlp(const ModelOptions& options, std::int64_t vocabulary_size, std::vector<at::Tensor> parameters,
           const Computing& computing, const std::optional<HeldRows>& held)
    : options_(options), rows_alone_(held && options.spatial == "free") {
  check_parameters(held_specs(parameter_specs(options, vocabulary_size), held), parameters);
  std::size_t index = 0;
  const auto next = [&] { return std::move(parameters[index++]); };
  embedding_ = next();
  residual_type_ = kernels::residual_type(embedding_.scalar_type(), computing.residual);
  for (std::int64_t layer = 0; layer < options.layers; ++layer) {
    kernels::GmlpBlock block = block_of(options, layer, computing);
    take_parameters(options, block, next);
    blocks_.push_back(std::move(block));
    last_of_block_.push_back(static_cast<std::int64_t>(index) - 1);
  }
  norm_weight_ = next();
  norm_bias_ = next();
  head_weight_ = options.tied ? embedding_ : next();
  if (options.head_bias) head_bias_ = next();
  parameters_ = static_cast<std::int64_t>(index);
  TORCH_CHECK(options.positions == "none" || options.positions == "sinusoidal", "model.positions is ",
              options.positions, ", allowed are none and sinusoidal");
  if (options.positions == "sinusoidal") {
    positions_ = sinusoids(options.seq_len, options.d_model,
                           at::TensorOptions(embedding_.device()).dtype(residual_type_));
  }
}

at::Tensor Gmlp::embed(const at::Tensor& tokens_BT, const CallPositions& at) const {
  at.check(options_.seq_len);
  at::Tensor x_BTd = kernels::embedding(embedding_, tokens_BT, residual_type_);
  if (options_.scale_embedding) x_BTd = x_BTd.mul(std::sqrt(static_cast<double>(options_.d_model)));
  if (positions_.defined()) x_BTd = x_BTd.add(at.of(positions_));
  return x_BTd;
}

void Gmlp::shard_sequence(const kernels::SequenceExchange* exchange) {
  TORCH_CHECK(exchange == nullptr || exchange->rows().positions() == options_.seq_len,
              "sequences of a model of ", options_.seq_len, " positions");
  TORCH_CHECK(exchange == nullptr || (options_.token_shift == 0 && options_.dropout == 0),
              "token shift and dropout cannot share a sequence among ranks");
  TORCH_CHECK(exchange != nullptr || !rows_alone_, "a model of some rows of W shares its sequences");
  exchange_ = exchange;
  held_t_ = exchange ? kernels::held_positions(*exchange, embedding_.device()) : at::Tensor();
}

CallPositions Gmlp::positions_of(const at::Tensor& tokens_BT,
                                 const kernels::SequenceExchange* exchange) const {
  if (exchange == nullptr) return {0, tokens_BT.size(1)};
  return CallPositions(exchange == exchange_ ? held_t_
                                             : kernels::held_positions(*exchange, embedding_.device()));
}

void Gmlp::check_whole() const {
  TORCH_CHECK(!rows_alone_,
              "this rank holds the rows of W of its positions alone: it computes sequences with the others");
}

kernels::ResidualStream Gmlp::encode(const at::Tensor& tokens_BT, const kernels::Dropout& rates,
                                     const kernels::SequenceExchange* exchange) const {
  if (exchange == nullptr) check_whole();
  announce(0);
  const at::Tensor embedded = embed(tokens_BT, positions_of(tokens_BT, exchange));
  kernels::ResidualStream stream{kernels::dropout(embedded, rates.at(kEmbeddingSite)), {}, {}};
  for (std::size_t layer = 0; layer < blocks_.size(); ++layer) {
    kernels::GmlpBlock block = blocks_[layer];
    block.exchange = exchange;
    announce(last_of_block_[layer]);
    if (kernels::has_fused_block(stream.x_BTd, block) && !kernels::draws(block, rates)) {
      stream = kernels::fused_block(stream, block);
    } else {
      stream.x_BTd = kernels::gmlp_block(stream.x_BTd, block, rates);
    }
  }
  announce(parameters_ - 1);
  return stream;
}

at::Tensor Gmlp::final_norm(const kernels::ResidualStream& stream) const {
  return kernels::residual_norm(stream, norm_weight_, norm_bias_, options_.norm_eps).y_Td;
}

at::Tensor Gmlp::head(const kernels::ResidualStream& stream) const {
  const at::Tensor normed = final_norm(stream);
  const at::Tensor logits_TV = head_bias_.defined() ? at::addmm(head_bias_, normed, head_weight_.t())
                                                    : at::mm(normed, head_weight_.t());
  std::vector<std::int64_t> shape = stream.x_BTd.sizes().vec();
  shape.back() = head_weight_.size(0);
  return logits_TV.view(shape);
}

at::Tensor Gmlp::logits(const at::Tensor& tokens_BT) const { return head(encode(tokens_BT, {})); }

at::Tensor Gmlp::loss_sum(const at::Tensor& tokens_BT, const at::Tensor& targets_BT) const {
  return loss_with(tokens_BT, targets_BT, {});
}

at::Tensor Gmlp::training_loss_sum(const at::Tensor& tokens_BT, const at::Tensor& targets_BT,
                                   const at::Tensor& samples_B) const {
  return loss_with(
      tokens_BT, targets_BT,
      {.rate = options_.dropout, .seed = options_.seed, .samples_B = samples_B, .site = kEmbeddingSite},
      exchange_);
}

at::Tensor Gmlp::target_losses(const at::Tensor& tokens_BT, const at::Tensor& targets_BT,
                               const kernels::SequenceExchange* exchange) const {
  const at::NoGradGuard no_grad;
  return kernels::linear_cross_entropy_of_rows(final_norm(encode(tokens_BT, {}, exchange)), head_weight_,
                                               head_bias_, targets_BT.reshape({-1}))
      .view(targets_BT.sizes());
}

at::Tensor Gmlp::loss_with(const at::Tensor& tokens_BT, const at::Tensor& targets_BT,
                           const kernels::Dropout& rates, const kernels::SequenceExchange* exchange) const {
  static_assert(kIgnore == kernels::kIgnoredTarget);
  TORCH_CHECK(tokens_BT.sizes() == targets_BT.sizes(), "tokens of shape ", tokens_BT.sizes(),
              ", targets of shape ", targets_BT.sizes());
  return kernels::linear_cross_entropy(final_norm(encode(tokens_BT, rates, exchange)), head_weight_,
                                       head_bias_, targets_BT.reshape({-1}));
}

}  // namespace sluice::model
