#include "trainer/train/masking.h"

#include <algorithm>
#include <cmath>

#include "trainer/kernels/philox.h"
#include "trainer/model/language_model.h"

namespace sluice::train {
namespace {

using kernels::PhiloxWords;

/// A position and what was drawn for it.
struct Candidate {
  std::int64_t position = 0;
  PhiloxWords draws{};

  [[nodiscard]] bool operator<(const Candidate& other) const {
    const auto key = [](const Candidate& c) {
      return static_cast<std::uint64_t>(c.draws.at[0]) << 32U | c.draws.at[1];
    };
    return key(*this) != key(other) ? key(*this) < key(other) : position < other.position;
  }
};

bool is_special(const MaskIds& ids, std::int32_t token) {
  return std::binary_search(ids.special_tokens.begin(), ids.special_tokens.end(), token);
}

/// The `place`-th id that is not special.
std::int32_t ordinary_id(const MaskIds& ids, std::int64_t place) {
  for (const std::int32_t special : ids.special_tokens)
    if (place >= special) ++place;
  return static_cast<std::int32_t>(place);
}

/// What is shown at a hidden position.
std::int32_t shown(const Masking& masking, std::int32_t token, const PhiloxWords& draws) {
  const double share = std::ldexp(static_cast<double>(draws.at[2]), -32);
  if (share < masking.mask_token_share) return masking.ids.mask_token;
  if (share >= masking.mask_token_share + masking.random_share) return token;
  const auto ordinary = static_cast<std::uint64_t>(
      masking.ids.vocabulary_size - static_cast<std::int64_t>(masking.ids.special_tokens.size()));
  return ordinary_id(masking.ids, static_cast<std::int64_t>(draws.at[3] * ordinary >> 32U));
}

Masking masking_with(const TrainOptions& options, const MaskIds& ids, std::uint64_t seed, MaskStream stream) {
  return {.rate = options.mask_rate,
          .mask_token_share = options.mask_token_share,
          .random_share = options.mask_random_share,
          .seed = seed,
          .stream = stream,
          .ids = ids};
}

}  // namespace

Objective objective_of(const TrainOptions& options) {
  return options.objective == "mlm" ? Objective::kMasked : Objective::kCausal;
}

std::int64_t masked_count(double rate, std::int64_t length) {
  return std::max<std::int64_t>(1, std::llround(rate * static_cast<double>(length)));
}

SampleForm causal_form(std::int64_t seq_len) { return {.row_tokens = seq_len + 1, .targets = seq_len}; }

SampleForm sample_form(const RunOptions& options) {
  const std::int64_t length = options.model.seq_len;
  if (objective_of(options.train) == Objective::kCausal) return causal_form(length);
  return {.row_tokens = 2 * length, .targets = masked_count(options.train.mask_rate, length)};
}

std::optional<MaskIds> mask_ids_of(const dataio::Tokenizer& tokenizer) {
  const auto mask = tokenizer.mask_token();
  if (!mask) return std::nullopt;
  return MaskIds{.mask_token = *mask,
                 .special_tokens = tokenizer.special_tokens(),
                 .vocabulary_size = tokenizer.vocabulary_size()};
}

Masking training_masking(const RunOptions& options, const MaskIds& ids) {
  return masking_with(options.train, ids, options.data.seed, MaskStream::kTraining);
}

Masking evaluation_masking(const TrainOptions& options, const MaskIds& ids) {
  return masking_with(options, ids, 0, MaskStream::kEvaluation);
}

void mask_window(const Masking& masking, std::int64_t sample, std::span<const std::int32_t> window,
                 std::span<std::int32_t> inputs, std::span<std::int32_t> targets) {
  std::ranges::copy(window, inputs.begin());
  std::ranges::fill(targets, static_cast<std::int32_t>(model::kIgnore));
  std::vector<Candidate> candidates;
  candidates.reserve(window.size());
  for (std::size_t i = 0; i < window.size(); ++i) {
    if (is_special(masking.ids, window[i])) continue;
    candidates.push_back(
        {static_cast<std::int64_t>(i),
         kernels::draws_of(masking.seed, static_cast<std::uint32_t>(masking.stream),
                           static_cast<std::uint64_t>(sample), static_cast<std::uint32_t>(i))});
  }
  const std::int64_t count = std::min(masked_count(masking.rate, std::ssize(window)), std::ssize(candidates));
  const auto end = candidates.begin() + count;
  std::nth_element(candidates.begin(), end, candidates.end());
  for (auto hidden = candidates.begin(); hidden != end; ++hidden) {
    const auto i = static_cast<std::size_t>(hidden->position);
    targets[i] = window[i];
    inputs[i] = shown(masking, window[i], hidden->draws);
  }
}

dataio::RowForm masked_rows(const Masking& masking, std::int64_t seq_len) {
  const auto length = static_cast<std::size_t>(seq_len);
  return {.width = 2 * seq_len,
          .make = [masking, length](std::int64_t sample, std::span<const std::int32_t> window,
                                    std::span<std::int32_t> row) {
            mask_window(masking, sample, window.first(length), row.first(length), row.last(length));
          }};
}

}  // namespace sluice::train
