#pragma once

#include <string>

#include "dataio/tokenizer.h"

namespace sluice::dataio {

inline constexpr const char* kTokenizerFile = "tokenizer.json";
inline constexpr const char* kTokenizerModelFile = "tokenizer.model";

/// What a kind needs beside its name and sizes; empty members are not written.
struct TokenizerContent {
  std::string characters{};  ///< chars: all characters in the order of their ids, as UTF-8
  std::string model{};       ///< sentencepiece: the model, kept beside tokenizer.json
  std::string name{};        ///< external
};

[[nodiscard]] TokenizerFiles tokenizer_files(const Tokenizer& tokenizer, const TokenizerContent& content);

}  // namespace sluice::dataio
