#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::dataio {

inline constexpr std::int64_t kDigestBlockBytes = 1 << 20;  ///< XXH3-64 of each MiB of a shard's token bytes

/// Where one shard's tokens lie, taken from HDF5 once, so that reading needs pread alone (HDF5 has a global
/// lock).
struct ShardLayout {
  std::string file;  ///< absolute path
  std::int64_t tokens = 0;
  std::int64_t data_offset = 0;    ///< bytes from the start of the file to token 0
  std::int32_t element_bytes = 2;  ///< 2 (uint16) or 4 (uint32), little endian
  std::int64_t documents = 0;      ///< documents that start within the shard
  std::int64_t vocabulary_size = 0;
  std::uint64_t digest =
      0;  ///< XXH3-64 of all token bytes as corpus.json says it; 0 where open_shard() was asked alone
  std::vector<std::uint64_t>
      block_digests;  ///< one for each kDigestBlockBytes of token bytes, the last one shorter
};

struct SplitLayout {
  std::string name;
  std::vector<ShardLayout> shards;
  std::int64_t tokens = 0;
  std::int64_t documents = 0;
  std::int64_t text_bytes = 0;       ///< bytes of the text that the tokens stand for: bits per byte
  std::int64_t text_characters = 0;  ///< likewise in code points
};

/// A validated corpus directory (docs/formats.md). Rank 0 opens it, the others unpack what it sends them.
class Corpus {
 public:
  /// Reads corpus.json and opens every shard through HDF5: format, version, type, endianness, contiguity,
  /// size, counts. Digests are not checked here (verify() does, and SplitReader at first touch). Throws
  /// DataError.
  [[nodiscard]] static Corpus open(const std::filesystem::path& directory);
  /// What other ranks need, as bytes to broadcast, and back.
  [[nodiscard]] std::string pack() const;
  [[nodiscard]] static Corpus unpack(std::string_view bytes);

  /// The same corpus, whose files lie under the same names in another directory.
  [[nodiscard]] Corpus moved_to(const std::filesystem::path& directory) const;

  /// Throws DataError naming the split and those there are, also if the split has no tokens.
  [[nodiscard]] const SplitLayout& split(std::string_view name) const;
  [[nodiscard]] bool has_split(std::string_view name) const;  ///< it is there, and not empty
  [[nodiscard]] const std::vector<SplitLayout>& splits() const { return splits_; }
  [[nodiscard]] const std::filesystem::path& directory() const { return directory_; }
  [[nodiscard]] const std::string& fingerprint() const {
    return fingerprint_;
  }  ///< of content, 16 hex digits
  [[nodiscard]] std::int64_t vocabulary_size() const { return vocabulary_size_; }
  [[nodiscard]] const std::string& tokenizer_kind() const { return tokenizer_kind_; }
  [[nodiscard]] std::int64_t end_of_document() const {
    return end_of_document_;
  }  ///< the id between documents, or kNoEndOfDocument

 private:
  std::filesystem::path directory_;
  std::string fingerprint_;
  std::string tokenizer_kind_;
  std::int64_t vocabulary_size_ = 0;
  std::int64_t end_of_document_ = 0;
  std::vector<SplitLayout> splits_;
};

struct ReaderOptions {
  /// 0: three quarters of what the process may open, shared by all readers; its soft limit is raised, up to
  /// the hard one, to hold all shards.
  std::int64_t max_open_files = 0;
  bool check_digests = true;
  std::chrono::microseconds injected_delay{0};  ///< added to each read by tests: a slow file system
};

/// Random access to a split's tokens by pread. Opens a shard when it is first read, keeps at most
/// max_open_files open (least recently used closed), checks a block's digest when it is first touched. Safe
/// for many threads at once.
class SplitReader {
 public:
  SplitReader(SplitLayout split, std::int64_t vocabulary_size, ReaderOptions options);
  ~SplitReader();
  SplitReader(const SplitReader&) = delete;
  SplitReader& operator=(const SplitReader&) = delete;

  /// Fills `out` with the tokens [begin, begin + out.size()) of the split, across shard borders. Throws
  /// DataError for a truncated, changed, unreadable or vanished file, or an id not below the vocabulary's
  /// size.
  void read(std::int64_t begin, std::span<std::int32_t> out);
  [[nodiscard]] const SplitLayout& split() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::dataio
