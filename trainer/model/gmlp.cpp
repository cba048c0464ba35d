#include "trainer/model/gmlp.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <utility>

#include "trainer/kernels/cross_entropy.h"
#include "trainer/kernels/embedding.h"
#include "trainer/kernels/fused_block.h"
#include "trainer/model/parameters.h"
#include "trainer/model/positions.h"

namespace sluice::model {
namespace {

constexpr std::int64_t kBlockParameters = 10;

}  // namespace

Gmlp::Gmlp(const ModelOptions& options, std::int64_t vocabulary_size, std::vector<at::Tensor> parameters,
           Recompute recompute)
    : options_(options) {
  check_parameters(parameter_specs(options, vocabulary_size), parameters);
  std::size_t index = 0;
  const auto next = [&] { return std::move(parameters[index++]); };
  embedding_ = next();
  for (std::int64_t layer = 0; layer < options.layers; ++layer) {
    kernels::GmlpBlock block;
    for (at::Tensor* parameter :
         {&block.norm_weight, &block.norm_bias, &block.expand_weight, &block.expand_bias,
          &block.gate_norm_weight, &block.gate_norm_bias, &block.spatial_weight, &block.spatial_bias,
          &block.contract_weight, &block.contract_bias}) {
      *parameter = next();
    }
    block.mixing = options.causal ? kernels::Mixing::kCausal : kernels::Mixing::kFull;
    block.norm_eps = options.norm_eps;
    block.recompute = recompute;
    blocks_.push_back(std::move(block));
  }
  norm_weight_ = next();
  norm_bias_ = next();
  head_weight_ = options.tied ? embedding_ : next();
  if (options.head_bias) head_bias_ = next();
  parameters_ = static_cast<std::int64_t>(index);
  TORCH_CHECK(options.positions == "none" || options.positions == "sinusoidal", "model.positions is ",
              options.positions, ", allowed are none and sinusoidal");
  if (options.positions == "sinusoidal") {
    const at::ScalarType type = kernels::residual_type(embedding_.scalar_type());
    positions_ =
        sinusoids(options.seq_len, options.d_model, at::TensorOptions(embedding_.device()).dtype(type));
  }
}

at::Tensor Gmlp::embed(const at::Tensor& tokens_BT, std::int64_t first) const {
  const std::int64_t count = tokens_BT.size(1);
  TORCH_CHECK(count >= 1 && first + count <= options_.seq_len, "positions ", first, " to ", first + count,
              " asked of a model of ", options_.seq_len);
  at::Tensor x_BTd = kernels::embedding(embedding_, tokens_BT);
  if (options_.scale_embedding) x_BTd = x_BTd.mul(std::sqrt(static_cast<double>(options_.d_model)));
  if (positions_.defined()) x_BTd = x_BTd.add(positions_.narrow(0, first, count));
  return x_BTd;
}

kernels::ResidualStream Gmlp::encode(const at::Tensor& tokens_BT) const {
  announce(0);
  kernels::ResidualStream stream{embed(tokens_BT, 0), {}, {}};
  std::int64_t last = 0;
  for (const kernels::GmlpBlock& block : blocks_) {
    announce(last += kBlockParameters);
    if (kernels::has_fused_block(stream.x_BTd, block))
      stream = kernels::fused_block(stream, block);
    else
      stream.x_BTd = kernels::gmlp_block(stream.x_BTd, block);
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

at::Tensor Gmlp::logits(const at::Tensor& tokens_BT) const { return head(encode(tokens_BT)); }

at::Tensor Gmlp::loss_sum(const at::Tensor& tokens_BT, const at::Tensor& targets_BT) const {
  static_assert(kIgnore == kernels::kIgnoredTarget);
  TORCH_CHECK(tokens_BT.sizes() == targets_BT.sizes(), "tokens of shape ", tokens_BT.sizes(),
              ", targets of shape ", targets_BT.sizes());
  return kernels::linear_cross_entropy(final_norm(encode(tokens_BT)), head_weight_, head_bias_,
                                       targets_BT.reshape({-1}));
}

}  // namespace sluice::model
