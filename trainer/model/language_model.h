#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "trainer/kernels/recompute.h"
#include "trainer/kernels/sequence_exchange.h"
#include "trainer/model/options.h"

// Shape suffixes, here and below: B batch, T positions of this call (T <= n), V vocabulary, d d_model, f
// d_ffn.

namespace sluice::model {

/// What incremental decoding keeps of the positions so far: of a gMLP each layer's gate inputs, of attention
/// keys and values.
class DecodeCache {
 public:
  virtual ~DecodeCache() = default;
  /// Positions held, 0 ... n.
  [[nodiscard]] virtual std::int64_t length() const = 0;
};

/// A language model over parameters that live elsewhere (views into the arena). Stateless apart from
/// them; one thread.
class LanguageModel {
 public:
  virtual ~LanguageModel() = default;

  /// tokens_BT int64 -> logits [B, T, V] in the parameters' dtype. Records autograd unless a NoGradGuard is
  /// set.
  [[nodiscard]] virtual at::Tensor logits(const at::Tensor& tokens_BT) const = 0;
  /// Sum over positions of -log p(target), a scalar in the parameters' dtype (float32 for bfloat16);
  /// targets_BT int64, kIgnore counts as zero.
  [[nodiscard]] virtual at::Tensor loss_sum(const at::Tensor& tokens_BT,
                                            const at::Tensor& targets_BT) const = 0;

  /// loss_sum as training wants it: with dropout, if the model has any. samples_B int64: each row's index
  /// among all samples of the run, by which alone draws are made.
  [[nodiscard]] virtual at::Tensor training_loss_sum(const at::Tensor& tokens_BT,
                                                     const at::Tensor& targets_BT,
                                                     const at::Tensor& /*samples_B*/) const {
    return loss_sum(tokens_BT, targets_BT);
  }

  /// loss_sum of sequences that this rank shares with those of `exchange`: it takes the positions that the
  /// rank holds (SequenceRows::held; of at most n, all of a short sequence), and gives the rank's share.
  /// Throws c10::Error for what a model cannot share.
  [[nodiscard]] virtual at::Tensor shared_loss_sum(const at::Tensor& /*tokens_Bt*/,
                                                   const at::Tensor& /*targets_Bt*/,
                                                   const kernels::SequenceExchange& /*exchange*/) const {
    TORCH_CHECK(false, "this family of models cannot share a sequence among ranks");
  }

  /// The terms of that sum, [B, T] in its type, zero for kIgnore; with `exchange` (or none) those of the
  /// positions that this rank holds. No autograd. Throws as shared_loss_sum does.
  [[nodiscard]] virtual at::Tensor target_losses(const at::Tensor& tokens_BT, const at::Tensor& targets_BT,
                                                 const kernels::SequenceExchange* exchange) const = 0;

  /// `before_use(last)` is called each time logits(), loss_sum() and training_loss_sum() are about to use
  /// parameters up to index `last` that they have not used before in that call: parameters may still be on
  /// their way until then.
  virtual void on_parameter_use(std::function<void(std::int64_t last)> before_use) = 0;

  /// Gives training_loss_sum `exchange`, which outlives the model: from then on it takes the positions of its
  /// sequences that this rank holds (SequenceRows::held), and its loss is the rank's share. Other calls keep
  /// taking whole sequences. None: training_loss_sum does so again. Throws c10::Error for what a model
  /// cannot share.
  virtual void shard_sequence(const kernels::SequenceExchange* exchange) {
    TORCH_CHECK(exchange == nullptr, "this family of models cannot share a sequence among ranks");
  }

  [[nodiscard]] virtual std::unique_ptr<DecodeCache> make_cache() const = 0;
  /// Encodes tokens_T (T <= n) from an emptied cache; returns the last position's logits [V]. No autograd.
  [[nodiscard]] virtual at::Tensor prefill(const at::Tensor& tokens_T, DecodeCache& cache) const = 0;
  /// One more token at position cache.length() (< n); returns its logits [V]: one row of each W. No autograd.
  [[nodiscard]] virtual at::Tensor decode(std::int64_t token, DecodeCache& cache) const = 0;
};

inline constexpr std::int64_t kIgnore = -100;
inline constexpr std::int64_t kEmbeddingSite = 0;  ///< of draws for the embeddings; those of blocks follow

using kernels::Recompute;

/// `parameters`: in the order and shapes of parameter_specs(options, vocabulary_size), float32, float64 or
/// bfloat16. `recompute`: by loss_sum and logits where they record autograd. `exchange`: of shard_sequence();
/// parameters are then in the shapes of held_specs(), and where that leaves a rank rows alone of some, only
/// what takes shared sequences can be computed.
[[nodiscard]] std::unique_ptr<LanguageModel> make_model(const ModelOptions& options,
                                                        std::int64_t vocabulary_size,
                                                        std::vector<at::Tensor> parameters,
                                                        Recompute recompute = Recompute::kNone,
                                                        const kernels::SequenceExchange* exchange = nullptr);

}  // namespace sluice::model
