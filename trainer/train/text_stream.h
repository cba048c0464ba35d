#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dataio/tokenizer.h"

namespace sluice::train {

/// Tokens in, text out, as soon as it is whole: a character whose bytes are spread over tokens comes out with
/// the last of them; bytes that are no UTF-8 come out as U+FFFD. `tokenizer` outlives it.
class TextStream {
 public:
  /// `context`: the tokens before, whose text is not given out (SentencePiece decodes a first word without
  /// its space).
  TextStream(const dataio::Tokenizer& tokenizer, std::vector<std::int32_t> context);

  /// The text that is whole now and has not been given out.
  [[nodiscard]] std::string push(std::int32_t token);
  /// What is left at the end.
  [[nodiscard]] std::string finish();

 private:
  [[nodiscard]] std::string pending_text() const;

  const dataio::Tokenizer& tokenizer_;
  std::vector<std::int32_t> context_;
  std::vector<std::int32_t> pending_;
  std::string bytes_;  ///< decoded, but not a whole character yet
};

}  // namespace sluice::train
