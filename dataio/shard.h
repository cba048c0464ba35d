#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dataio/corpus.h"

namespace sluice::dataio {

inline constexpr std::int64_t kFormatVersion = 1;  ///< of corpus.json and of each shard

/// What a shard is, as its HDF5 attributes and corpus.json say it.
struct ShardSummary {
  std::string file;  ///< name within the corpus directory
  std::int64_t tokens = 0;
  std::int64_t documents = 0;
  std::uint64_t digest = 0;  ///< XXH3-64 of all token bytes
};

/// Writes one shard file: contiguous 1-D `tokens` of uint16 or uint32, `documents` (int64 offsets of document
/// starts within the shard), `digests` (uint64, XXH3-64 of each MiB of token bytes) and attributes. Tokens
/// are appended; memory stays bounded. close() writes the rest and fsyncs. Throws DataError (disk full
/// included).
class ShardWriter {
 public:
  /// `tokens`: the exact number that will be appended (the dataset is contiguous).
  ShardWriter(std::filesystem::path file, std::int64_t tokens, std::int64_t vocabulary_size);
  ~ShardWriter();  ///< without close(): the file is left incomplete and does not open
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  void append(std::span<const std::int32_t> tokens);
  /// Marks that a document starts at the next appended token.
  void begin_document();
  ShardSummary close();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Opens a shard through HDF5 and checks magic, version, rank, type, endianness, contiguity and that the file
/// is long enough. Throws DataError.
[[nodiscard]] ShardLayout open_shard(const std::filesystem::path& file);
/// The document starts within a shard, in tokens.
[[nodiscard]] std::vector<std::int64_t> read_document_offsets(const std::filesystem::path& file);

}  // namespace sluice::dataio
