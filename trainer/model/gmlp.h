#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "trainer/kernels/gmlp_block.h"
#include "trainer/kernels/residual_norm.h"
#include "trainer/model/held_parameters.h"
#include "trainer/model/language_model.h"
#include "trainer/model/positions.h"

namespace sluice::model {

/// gMLP and its variants, causal or not, of bfloat16 parameters with a residual stream and norms in float32:
/// embedding (scaled and with sinusoidal positions if asked), blocks, final norm, head (tied or not). Every
/// call throws c10::Error for more than n positions; prefill and decode also for a model that is not causal.
class Gmlp final : public LanguageModel {
 public:
  /// As make_model: `parameters` in the order of parameter_specs and the shapes of held_specs; throws
  /// c10::Error otherwise.
  Gmlp(const ModelOptions& options, std::int64_t vocabulary_size, std::vector<at::Tensor> parameters,
       Recompute recompute, const std::optional<HeldRows>& held = {});

  [[nodiscard]] at::Tensor logits(const at::Tensor& tokens_BT) const override;
  [[nodiscard]] at::Tensor loss_sum(const at::Tensor& tokens_BT, const at::Tensor& targets_BT) const override;
  [[nodiscard]] at::Tensor training_loss_sum(const at::Tensor& tokens_BT, const at::Tensor& targets_BT,
                                             const at::Tensor& samples_B) const override;
  [[nodiscard]] at::Tensor shared_loss_sum(const at::Tensor& tokens_Bt, const at::Tensor& targets_Bt,
                                           const kernels::SequenceExchange& exchange) const override {
    return loss_with(tokens_Bt, targets_Bt, {}, &exchange);
  }
  [[nodiscard]] at::Tensor target_losses(const at::Tensor& tokens_BT, const at::Tensor& targets_BT,
                                         const kernels::SequenceExchange* exchange) const override;
  void on_parameter_use(std::function<void(std::int64_t last)> before_use) override {
    before_use_ = std::move(before_use);
  }
  void shard_sequence(const kernels::SequenceExchange* exchange) override;
  [[nodiscard]] std::unique_ptr<DecodeCache> make_cache() const override;
  [[nodiscard]] at::Tensor prefill(const at::Tensor& tokens_T, DecodeCache& cache) const override;
  [[nodiscard]] at::Tensor decode(std::int64_t token, DecodeCache& cache) const override;

 private:
  /// tokens_BT at these positions -> [B, T, d], the residual stream from here to final_norm.
  [[nodiscard]] at::Tensor embed(const at::Tensor& tokens_BT, const CallPositions& at) const;
  /// Of a call, whole or shared.
  [[nodiscard]] CallPositions positions_of(const at::Tensor& tokens_BT,
                                           const kernels::SequenceExchange* exchange) const;
  /// embed and all blocks; `rates` of dropout, with the samples by which all draws are made. `exchange`: the
  /// tokens are the positions that this rank holds.
  [[nodiscard]] kernels::ResidualStream encode(const at::Tensor& tokens_BT, const kernels::Dropout& rates,
                                               const kernels::SequenceExchange* exchange = nullptr) const;
  [[nodiscard]] at::Tensor loss_with(const at::Tensor& tokens_BT, const at::Tensor& targets_BT,
                                     const kernels::Dropout& rates,
                                     const kernels::SequenceExchange* exchange = nullptr) const;
  /// The next positions of one sequence, a whole prompt or one token: the last one's logits [V].
  [[nodiscard]] at::Tensor advance(const at::Tensor& tokens_1T, DecodeCache& cache) const;
  /// Final norm: [..., d] -> [T, d], leading dimensions flattened.
  [[nodiscard]] at::Tensor final_norm(const kernels::ResidualStream& stream) const;
  /// Final norm and output projection: [..., d] -> [..., V].
  [[nodiscard]] at::Tensor head(const kernels::ResidualStream& stream) const;

  /// Throws where this rank has rows alone of some parameters, and so cannot compute whole sequences.
  void check_whole() const;
  /// The next call uses parameters up to index `last`.
  void announce(std::int64_t last) const {
    if (before_use_) before_use_(last);
  }

  ModelOptions options_;
  bool rows_alone_;  ///< of W
  std::function<void(std::int64_t last)> before_use_;
  std::vector<std::int64_t> last_of_block_;              ///< index of each block's last parameter
  const kernels::SequenceExchange* exchange_ = nullptr;  ///< of training_loss_sum
  at::Tensor held_t_;                                    ///< positions that this rank holds then
  std::int64_t parameters_ = 0;                          ///< how many there are
  at::Tensor embedding_;                                 ///< [V, d]
  at::Tensor positions_;  ///< [n, d] sinusoids of the residual stream's type, or undefined
  std::vector<kernels::GmlpBlock> blocks_;
  at::Tensor norm_weight_;
  at::Tensor norm_bias_;
  at::Tensor head_weight_;  ///< [V, d]; the embedding if tied
  at::Tensor head_bias_;    ///< [V], or undefined
};

}  // namespace sluice::model
