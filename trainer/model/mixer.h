#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "trainer/kernels/mixer_block.h"
#include "trainer/model/language_model.h"

namespace sluice::model {

/// MLP-Mixer for text, as arXiv 2105.08050 compares with (table 3), of bfloat16 parameters with a residual
/// stream and norms in float32: embedding (with learned or sinusoidal positions if asked), blocks, final
/// norm, head (tied or not). Every position sees every other, so it never decodes: make_cache, prefill and
/// decode throw c10::Error, as does every call for more than n positions.
class Mixer final : public LanguageModel {
 public:
  /// As make_model: `parameters` in the order and shapes of parameter_specs; throws c10::Error otherwise.
  Mixer(const ModelOptions& options, std::int64_t vocabulary_size, std::vector<at::Tensor> parameters,
        Recompute recompute);

  [[nodiscard]] at::Tensor logits(const at::Tensor& tokens_BT) const override;
  [[nodiscard]] at::Tensor loss_sum(const at::Tensor& tokens_BT, const at::Tensor& targets_BT) const override;
  [[nodiscard]] at::Tensor training_loss_sum(const at::Tensor& tokens_BT, const at::Tensor& targets_BT,
                                             const at::Tensor& samples_B) const override;
  [[nodiscard]] at::Tensor target_losses(const at::Tensor& tokens_BT, const at::Tensor& targets_BT,
                                         const kernels::SequenceExchange* exchange) const override;
  void on_parameter_use(std::function<void(std::int64_t last)> before_use) override {
    before_use_ = std::move(before_use);
  }
  [[nodiscard]] std::unique_ptr<DecodeCache> make_cache() const override;
  [[nodiscard]] at::Tensor prefill(const at::Tensor& tokens_T, DecodeCache& cache) const override;
  [[nodiscard]] at::Tensor decode(std::int64_t token, DecodeCache& cache) const override;

 private:
  /// Embedding, blocks and final norm: [B, T] -> [B T, d].
  [[nodiscard]] at::Tensor encode(const at::Tensor& tokens_BT, const kernels::Dropout& dropout) const;
  [[nodiscard]] at::Tensor loss_with(const at::Tensor& tokens_BT, const at::Tensor& targets_BT,
                                     const kernels::Dropout& dropout) const;

  /// The next call uses parameters up to index `last`.
  void announce(std::int64_t last) const {
    if (before_use_) before_use_(last);
  }

  ModelOptions options_;
  std::function<void(std::int64_t last)> before_use_;
  std::vector<std::int64_t> last_of_block_;  ///< index of each block's last parameter
  std::int64_t parameters_ = 0;              ///< how many there are
  at::Tensor embedding_;                     ///< [V, d]
  at::Tensor learned_positions_;             ///< [n, d], or undefined
  at::Tensor fixed_positions_;               ///< [n, d] sinusoids of the residual stream's type, or undefined
  std::vector<kernels::MixerBlock> blocks_;
  kernels::Norm final_norm_;
  at::Tensor head_weight_;  ///< [V, d]; the embedding if tied
  at::Tensor head_bias_;    ///< [V], or undefined
};

}  // namespace sluice::model
