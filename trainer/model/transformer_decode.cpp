#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

#include "trainer/model/transformer.h"

namespace sluice::model {
namespace {

/// For each layer the keys and values of the positions so far, [1, H, n, k] each.
class TransformerCache final : public DecodeCache {
 public:
  TransformerCache(std::size_t layers, at::IntArrayRef shape_BHnk, const at::TensorOptions& tensor_options) {
    for (std::size_t layer = 0; layer < layers; ++layer) {
      keys_.push_back(at::empty(shape_BHnk, tensor_options));
      values_.push_back(at::empty(shape_BHnk, tensor_options));
    }
  }
  [[nodiscard]] std::int64_t length() const override { return length_; }

  void set_length(std::int64_t length) { length_ = length; }
  /// Stores keys and values of the positions first, first + 1, ...; returns those of all from 0 to the last
  /// stored, with the queries given.
  kernels::Heads store(std::size_t layer, std::int64_t first, const kernels::Heads& heads) {
    const std::int64_t count = heads.v.size(2);
    const auto all = [&](const at::Tensor& kept, const at::Tensor& added) {
      kept.narrow(2, first, count).copy_(added);
      return kept.narrow(2, 0, first + count);
    };
    return {heads.q, heads.k.defined() ? all(keys_[layer], heads.k) : at::Tensor(),
            all(values_[layer], heads.v), heads.x_BTd};
  }

 private:
  std::vector<at::Tensor> keys_;
  std::vector<at::Tensor> values_;
  std::int64_t length_ = 0;
};

TransformerCache& keys_and_values(DecodeCache& cache) {
  auto* kept = dynamic_cast<TransformerCache*>(&cache);
  TORCH_CHECK(kept != nullptr, "the cache was made by another kind of model");
  return *kept;
}

}  // namespace

std::unique_ptr<DecodeCache> Transformer::make_cache() const {
  return std::make_unique<TransformerCache>(
      blocks_.size(),
      std::vector<std::int64_t>{1, options_.heads, options_.seq_len, options_.d_model / options_.heads},
      embedding_.options().requires_grad(false));
}

at::Tensor Transformer::prefill(const at::Tensor& tokens_T, DecodeCache& cache) const {
  TORCH_CHECK(options_.causal, "a model that is not causal cannot decode");
  const at::NoGradGuard no_grad;
  TransformerCache& kept = keys_and_values(cache);
  kept.set_length(0);
  at::Tensor x_BTd = embed(tokens_T.unsqueeze(0), {0, tokens_T.size(0)});
  for (std::size_t layer = 0; layer < blocks_.size(); ++layer) {
    const kernels::Heads heads = kernels::project_heads(x_BTd, blocks_[layer], 0);
    (void)kept.store(layer, 0, heads);
    x_BTd = kernels::finish_block(x_BTd, kernels::attend(heads, blocks_[layer]), blocks_[layer]);
  }
  kept.set_length(tokens_T.size(0));
  return head({x_BTd.select(1, tokens_T.size(0) - 1), {}, {}}).squeeze(0);
}

at::Tensor Transformer::decode(std::int64_t token, DecodeCache& cache) const {
  TORCH_CHECK(options_.causal, "a model that is not causal cannot decode");
  const at::NoGradGuard no_grad;
  TransformerCache& kept = keys_and_values(cache);
  const std::int64_t position = kept.length();
  at::Tensor x_BTd = embed(
      at::full({1, 1}, token, embedding_.options().dtype(at::kLong).requires_grad(false)), {position, 1});
  for (std::size_t layer = 0; layer < blocks_.size(); ++layer) {
    const kernels::Heads seen =
        kept.store(layer, position, kernels::project_heads(x_BTd, blocks_[layer], position));
    x_BTd = kernels::finish_block(x_BTd, kernels::attend(seen, blocks_[layer]), blocks_[layer]);
  }
  kept.set_length(position + 1);
  return head({x_BTd.select(1, 0), {}, {}}).squeeze(0);
}

}  // namespace sluice::model
