#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dataio/files.h"

namespace sluice::dataio {

/// Part of a spool's tokens that lie in one document, or in one block of reading, whichever is shorter.
struct SpoolRun {
  std::span<const std::int32_t> tokens;
  bool starts_document = false;
};

/// A temporary file of tokens and document starts of one stream, in the width of the shards: HDF5's
/// contiguous datasets need their exact length, which is known only when all text is encoded. Memory is
/// bounded.
class Spool {
 public:
  /// Makes DIR/NAME.tokens and DIR/NAME.starts; remove() takes them away.
  Spool(const std::filesystem::path& directory, const std::string& name, std::int64_t vocabulary_size);

  /// `tokens`: as bytes of element_bytes() each, little endian.
  void append(std::string_view tokens);
  void append(std::int32_t token);
  void begin_document();
  /// Ends the writing; reading comes after it.
  void finish();

  /// All of [begin, end) in order, cut at document starts.
  void for_each_run(std::int64_t begin, std::int64_t end,
                    const std::function<void(const SpoolRun&)>& take) const;
  [[nodiscard]] std::vector<std::int32_t> read(std::int64_t begin, std::int64_t end) const;
  [[nodiscard]] std::int64_t tokens() const { return tokens_; }
  void remove();

 private:
  [[nodiscard]] std::int64_t start_at(std::int64_t index) const;
  [[nodiscard]] std::int64_t first_start_from(std::int64_t token) const;
  void flush(File& file, std::string& buffer);

  std::int64_t element_bytes_ = 0;
  File token_file_;
  File start_file_;
  std::string token_buffer_;
  std::string start_buffer_;
  std::int64_t tokens_ = 0;
  std::int64_t starts_ = 0;
};

/// Bytes of a token in shards of this vocabulary: 2 up to 65536 ids, else 4.
[[nodiscard]] std::int64_t element_bytes_for(std::int64_t vocabulary_size);
/// The ids in such bytes; those of 2^31 and more come out negative.
[[nodiscard]] std::vector<std::int32_t> unpack_tokens(std::string_view bytes, std::int64_t element_bytes);
/// Tokens as little-endian bytes of that width.
[[nodiscard]] std::string pack_tokens(std::span<const std::int32_t> tokens, std::int64_t element_bytes);

}  // namespace sluice::dataio
