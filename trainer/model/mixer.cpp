#include "trainer/model/mixer.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <c10/util/Exception.h>

#include <cmath>

#include "trainer/kernels/cross_entropy.h"
#include "trainer/kernels/embedding.h"
#include "trainer/kernels/gmlp_block.h"
#include "trainer/model/parameter_list.h"
#include "trainer/model/parameters.h"
#include "trainer/model/positions.h"

namespace sluice::model {
namespace {

[[noreturn]] void refuse_to_decode() { TORCH_CHECK(false, "an MLP-Mixer is not causal and cannot decode"); }

}  // namespace

Mixer::Mixer(const ModelOptions& options, std::int64_t vocabulary_size, std::vector<at::Tensor> parameters,
             Recompute recompute)
    : options_(options) {
  check_parameters(parameter_specs(options, vocabulary_size), parameters);
  TORCH_CHECK(recompute != Recompute::kGate, "an MLP-Mixer has no gate to compute again");
  ParameterList list(options_, std::move(parameters));
  embedding_ = list.next();
  const auto wide =
      at::TensorOptions(embedding_.device()).dtype(kernels::residual_type(embedding_.scalar_type()));
  if (options.positions == "learned") learned_positions_ = list.next();
  if (options.positions == "sinusoidal") fixed_positions_ = sinusoids(options.seq_len, options.d_model, wide);
  for (std::int64_t layer = 0; layer < options.layers; ++layer) {
    kernels::MixerBlock block;
    block.token_norm = list.next_norm();
    block.token_expand = list.next_linear();
    block.token_contract = list.next_linear();
    block.mlp_norm = list.next_norm();
    block.expand = list.next_linear();
    block.contract = list.next_linear();
    block.activation = options.gelu == "tanh" ? kernels::Activation::kGeluTanh : kernels::Activation::kGelu;
    block.recompute = recompute;
    block.first_site = kEmbeddingSite + 1 + layer * kernels::kMixerSites;
    blocks_.push_back(std::move(block));
    last_of_block_.push_back(list.count() - 1);
  }
  final_norm_ = list.next_norm();
  head_weight_ = options.tied ? embedding_ : list.next();
  if (options.head_bias) head_bias_ = list.next();
  parameters_ = list.count();
}

at::Tensor Mixer::encode(const at::Tensor& tokens_BT, const kernels::Dropout& dropout) const {
  const std::int64_t count = tokens_BT.size(1);
  TORCH_CHECK(count >= 1 && count <= options_.seq_len, count, " positions asked of a model of ",
              options_.seq_len);
  announce(learned_positions_.defined() ? 1 : 0);
  at::Tensor x_BTd = kernels::embedding(embedding_, tokens_BT);
  if (options_.scale_embedding) x_BTd = x_BTd.mul(std::sqrt(static_cast<double>(options_.d_model)));
  if (learned_positions_.defined()) x_BTd = x_BTd.add(learned_positions_.narrow(0, 0, count));
  if (fixed_positions_.defined()) x_BTd = x_BTd.add(fixed_positions_.narrow(0, 0, count));
  x_BTd = kernels::dropout(x_BTd, dropout.at(kEmbeddingSite));
  for (std::size_t layer = 0; layer < blocks_.size(); ++layer) {
    announce(last_of_block_[layer]);
    x_BTd = kernels::mixer_block(x_BTd, blocks_[layer], dropout);
  }
  announce(parameters_ - 1);
  return kernels::normalise(x_BTd, final_norm_).y_Td;
}

at::Tensor Mixer::logits(const at::Tensor& tokens_BT) const {
  const at::Tensor normed = encode(tokens_BT, {});
  const at::Tensor logits_TV = head_bias_.defined() ? at::addmm(head_bias_, normed, head_weight_.t())
                                                    : at::mm(normed, head_weight_.t());
  return logits_TV.view({tokens_BT.size(0), tokens_BT.size(1), head_weight_.size(0)});
}

at::Tensor Mixer::loss_sum(const at::Tensor& tokens_BT, const at::Tensor& targets_BT) const {
  return loss_with(tokens_BT, targets_BT, {});
}

at::Tensor Mixer::training_loss_sum(const at::Tensor& tokens_BT, const at::Tensor& targets_BT,
                                    const at::Tensor& samples_B) const {
  return loss_with(
      tokens_BT, targets_BT,
      {.rate = options_.dropout, .seed = options_.seed, .samples_B = samples_B, .site = kEmbeddingSite});
}

at::Tensor Mixer::target_losses(const at::Tensor& tokens_BT, const at::Tensor& targets_BT,
                                const kernels::SequenceExchange* exchange) const {
  const at::NoGradGuard no_grad;
  TORCH_CHECK(exchange == nullptr, "an MLP-Mixer cannot share a sequence among ranks");
  return kernels::linear_cross_entropy_of_rows(encode(tokens_BT, {}), head_weight_, head_bias_,
                                               targets_BT.reshape({-1}))
      .view(targets_BT.sizes());
}

at::Tensor Mixer::loss_with(const at::Tensor& tokens_BT, const at::Tensor& targets_BT,
                            const kernels::Dropout& dropout) const {
  TORCH_CHECK(tokens_BT.sizes() == targets_BT.sizes(), "tokens of shape ", tokens_BT.sizes(),
              ", targets of shape ", targets_BT.sizes());
  return kernels::linear_cross_entropy(encode(tokens_BT, dropout), head_weight_, head_bias_,
                                       targets_BT.reshape({-1}));
}

std::unique_ptr<DecodeCache> Mixer::make_cache() const { refuse_to_decode(); }

at::Tensor Mixer::prefill(const at::Tensor& /*tokens_T*/, DecodeCache& /*cache*/) const {
  refuse_to_decode();
}

at::Tensor Mixer::decode(std::int64_t /*token*/, DecodeCache& /*cache*/) const { refuse_to_decode(); }

}  // namespace sluice::model
