#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "dataio/loader.h"
#include "dataio/tokenizer.h"
#include "trainer/train/options.h"

// The objective of masked language models (Devlin et al. 2018, 3.1): some tokens of a window are hidden, and
// predicted from what stands on both sides of them.

namespace sluice::train {

enum class Objective {
  kCausal,  ///< every position predicts the next token
  kMasked,  ///< hidden positions predict their own token
};
[[nodiscard]] Objective objective_of(const TrainOptions& options);

/// How many tokens of `length` are predicted: the share `rate` of them, rounded, at least one. A fixed number
/// for a length, so that the mean over a global batch needs no count over ranks.
[[nodiscard]] std::int64_t masked_count(double rate, std::int64_t length);

/// A sample as the step takes it: a row that begins with the n inputs and ends with the n targets, and how
/// many of these count.
struct SampleForm {
  std::int64_t row_tokens = 0;  ///< n + 1 where targets are the inputs shifted; 2n: inputs, then targets
  std::int64_t targets = 0;
};
[[nodiscard]] SampleForm causal_form(std::int64_t seq_len);
[[nodiscard]] SampleForm sample_form(const RunOptions& options);

/// What masking needs of a tokenizer.
struct MaskIds {
  std::int32_t mask_token = 0;
  std::vector<std::int32_t> special_tokens;  ///< ascending: never hidden, never drawn
  std::int64_t vocabulary_size = 0;
};
/// None where the tokenizer has no mask token.
[[nodiscard]] std::optional<MaskIds> mask_ids_of(const dataio::Tokenizer& tokenizer);

/// Whose draws: those of a run's samples, or those of a split that is evaluated.
enum class MaskStream : std::uint32_t { kTraining = 0x6D61736B, kEvaluation };

/// Which tokens are hidden, and how.
struct Masking {
  double rate = 0.15;
  double mask_token_share = 0.8;  ///< of the predicted tokens, shown as the mask token
  double random_share = 0.1;      ///< of them, shown as a token drawn from all that are not special
  std::uint64_t seed = 0;
  MaskStream stream = MaskStream::kTraining;
  MaskIds ids;
};
/// Of a run's training: keyed by data.seed, so that resuming, ranks and micro-batches mask alike.
[[nodiscard]] Masking training_masking(const RunOptions& options, const MaskIds& ids);
/// Of every evaluation: the same tokens of a split are hidden whatever the run and its seeds.
[[nodiscard]] Masking evaluation_masking(const TrainOptions& options, const MaskIds& ids);

/// Hides masked_count() tokens of `window` that are not special (all of these, if they are fewer):
/// `inputs` is what the model sees, `targets` holds the hidden tokens and model::kIgnore elsewhere; all of
/// one length. A pure function of (masking, sample, window).
void mask_window(const Masking& masking, std::int64_t sample, std::span<const std::int32_t> window,
                 std::span<std::int32_t> inputs, std::span<std::int32_t> targets);

/// The loader's rows for `masking`: of a window's n + 1 tokens the first n.
[[nodiscard]] dataio::RowForm masked_rows(const Masking& masking, std::int64_t seq_len);

}  // namespace sluice::train
