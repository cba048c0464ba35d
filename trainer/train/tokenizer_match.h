#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "dataio/corpus.h"
#include "dataio/tokenizer.h"

namespace sluice::train {

/// Whose tokenizer it is ("the corpus /data/x"), and all that says what its ids mean.
struct NamedTokenizer {
  std::string name;
  std::string kind;
  std::int64_t vocabulary_size = 0;
  std::int64_t end_of_document = 0;  ///< dataio::kNoEndOfDocument: none
  dataio::TokenizerFiles files{};
};

/// `corpus`'s, by its path. Throws DataError.
[[nodiscard]] NamedTokenizer tokenizer_of(const dataio::Corpus& corpus);

/// "A has the tokenizer X, B has Y"; nothing where ids of one mean what ids of the other do.
[[nodiscard]] std::optional<std::string> tokenizer_difference(const NamedTokenizer& one,
                                                              const NamedTokenizer& other);

}  // namespace sluice::train
