#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "trainer/model/language_model.h"
#include "trainer/train/sampler.h"

namespace sluice::train {

/// What a model of n positions sees of a text that grows past n: tokens are decoded one by one while the
/// window holds fewer than n; at n it slides, and the last n - slide + 1 tokens are encoded anew. So slide 1
/// always sees the last n tokens, at the price of a whole encoding a token; slide s sees n - s + 1 to n
/// tokens and encodes once in s tokens.
struct WindowOptions {
  std::int64_t seq_len = 0;  ///< n of the model
  std::int64_t slide = 1;    ///< 1 ... n
};

/// The slide that generation uses unless told otherwise: n / 4, at least 1.
[[nodiscard]] std::int64_t default_slide(std::int64_t seq_len);

/// A text being continued: the model's cache over the window's tokens and the distribution of the next one.
/// `model` outlives it.
class DecodingWindow {
 public:
  /// Encodes the last n of `prompt`, which must not be empty. Throws std::invalid_argument.
  DecodingWindow(const model::LanguageModel& model, const WindowOptions& options,
                 std::vector<std::int64_t> prompt);

  /// Of the next token, in float64.
  [[nodiscard]] const std::vector<double>& logits() const { return logits_; }
  void append(std::int64_t token);
  /// The tokens that the model sees now, at most n.
  [[nodiscard]] std::vector<std::int64_t> window() const;

 private:
  void encode(std::int64_t last_tokens);

  const model::LanguageModel& model_;
  WindowOptions options_;
  std::vector<std::int64_t> tokens_;
  std::unique_ptr<model::DecodeCache> cache_;
  std::vector<double> logits_;
};

/// Continues `prompt` by `count` tokens and hands each one over as it is chosen.
void generate(const model::LanguageModel& model, const WindowOptions& window, const SamplingOptions& sampling,
              std::vector<std::int64_t> prompt, std::int64_t count,
              const std::function<void(std::int64_t token)>& on_token);

}  // namespace sluice::train
