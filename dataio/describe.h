#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::dataio {

struct ShardDescription {
  std::string file;  ///< name within the corpus
  std::int64_t tokens = 0;
  std::int64_t documents = 0;
  std::int64_t file_bytes = 0;
  std::string xxh3;  ///< of all token bytes, 16 hex digits
};

struct SplitDescription {
  std::string name;
  std::int64_t tokens = 0;
  std::int64_t documents = 0;
  std::int64_t text_bytes = 0;
  std::int64_t text_characters = 0;
  std::vector<ShardDescription> shards;
};

/// What `sluice inspect` says of a corpus.
struct CorpusSummary {
  std::filesystem::path directory;
  std::int64_t version = 0;
  std::string tokenizer_kind;
  std::int64_t vocabulary_size = 0;
  std::int64_t end_of_document = 0;
  std::string dtype;  ///< uint16 or uint32
  std::string fingerprint;
  std::vector<SplitDescription> splits;
};

/// Opens the corpus (Corpus::open and its checks) and sums it up. Throws DataError.
[[nodiscard]] CorpusSummary describe_corpus(const std::filesystem::path& directory);

/// A stretch of a split, with the text that it stands for; none where the tokenizer is external.
struct TokenWindow {
  std::vector<std::int32_t> ids;
  std::string text;
};

/// Tokens [begin, end) of a split. Throws DataError naming the split's size where they are not in it.
[[nodiscard]] TokenWindow read_window(const std::filesystem::path& directory, std::string_view split,
                                      std::int64_t begin, std::int64_t end);

}  // namespace sluice::dataio
