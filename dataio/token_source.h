#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "dataio/token_file.h"

namespace sluice::dataio {

/// Consecutive ids of one file, of one document where the file knows documents.
struct TokenPiece {
  std::vector<std::int64_t> ids{};
  std::int64_t byte = 0;         ///< in the file, of the first id
  bool starts_document = false;  ///< by the file's own index
};

/// The ids of a file in pieces of bounded size.
class TokenSource {
 public:
  virtual ~TokenSource() = default;
  /// None at the end. Throws DataError.
  [[nodiscard]] virtual std::optional<TokenPiece> next() = 0;
};

/// `file` outlives the source.
[[nodiscard]] std::unique_ptr<TokenSource> open_tokens(const TokenFile& file);

}  // namespace sluice::dataio
