#pragma once

#include <filesystem>
#include <string>

#include "dataio/tokenizer.h"

namespace sluice::dataio {

inline constexpr const char* kTokenizerFile = "tokenizer.json";
inline constexpr const char* kTokenizerModelFile = "tokenizer.model";

/// What a kind needs beside its name and sizes; empty members are not written.
struct TokenizerContent {
  std::string characters{};  ///< chars: all characters in the order of their ids, as UTF-8
  std::string model{};       ///< sentencepiece: the model, kept in its own file beside tokenizer.json
  std::string name{};        ///< external
};

/// Writes tokenizer.json, and tokenizer.model where there is a model. Throws DataError.
void save_tokenizer(const std::filesystem::path& directory, const Tokenizer& tokenizer,
                    const TokenizerContent& content);

/// Everything that the tokenizer's files in `directory` hold: equal for equal tokenizers. Throws DataError.
[[nodiscard]] std::string tokenizer_content(const std::filesystem::path& directory);

}  // namespace sluice::dataio
