#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "dataio/token_file.h"

// Megatron's .idx, little endian: "MMIDIDX\0\0", version 1 (uint64), code of the ids' type (uint8), number of
// sequences and length of the last array (uint64 each); then the tokens of each sequence (int32), the byte in
// the .bin at which it begins (int64), and the sequences at which documents begin (int64), with the number of
// sequences at its end. A mode for each sequence (int8) may follow.

namespace sluice::dataio {

struct IndexHeader {
  TokenType type;
  std::int64_t sequences = 0;
  std::int64_t documents = 0;
};

/// Throws DataError for another format, version or type, and for a size that does not fit the counts.
[[nodiscard]] IndexHeader read_index_header(const std::filesystem::path& index);

/// A stretch of a .bin: one sequence of a document.
struct IndexedSequence {
  std::int64_t begin = 0;  ///< bytes
  std::int64_t tokens = 0;
  bool starts_document = false;
};

/// The sequences of an index, in its order, read piece by piece.
class IndexReader {
 public:
  /// `file`: of open_token_file().
  explicit IndexReader(const TokenFile& file);
  ~IndexReader();
  IndexReader(const IndexReader&) = delete;
  IndexReader& operator=(const IndexReader&) = delete;

  /// Throws DataError, naming the entry, for documents that do not follow one another and for a sequence that
  /// is not in the .bin.
  [[nodiscard]] std::optional<IndexedSequence> next();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::dataio
