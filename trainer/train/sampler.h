#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sluice::train {

/// How the next token is chosen from the model's distribution.
struct SamplingOptions {
  double temperature = 1.0;  ///< logits are divided by it; 0: the likeliest token (greedy)
  std::int64_t top_k = 0;    ///< keep the k likeliest tokens; 0: all
  double top_p = 1.0;        ///< then keep the fewest likeliest ones whose probabilities reach p, (0, 1]
  std::uint64_t seed = 0;
};

/// A token that may be chosen, with its probability.
struct Candidate {
  std::int64_t token = 0;
  double probability = 0.0;
};

/// The tokens that may be chosen, likeliest first (of equal ones the lower id first); probabilities sum to
/// one. Computed in double. `logits`: one for each token, finite. Throws std::invalid_argument for none, one
/// that is not finite, or options out of range.
[[nodiscard]] std::vector<Candidate> candidates(std::span<const double> logits,
                                                const SamplingOptions& options);

/// Chooses by the inverse of the cumulative distribution, at a uniform number that is a pure function of
/// (seed, draw): the same logits give the same tokens on every machine.
[[nodiscard]] std::int64_t choose_token(std::span<const double> logits, const SamplingOptions& options,
                                        std::int64_t draw);

/// The number in [0, 1) of (seed, draw): 53 bits of SplitMix64 (Steele, Lea & Flood 2014).
[[nodiscard]] double uniform_draw(std::uint64_t seed, std::int64_t draw);

}  // namespace sluice::train
