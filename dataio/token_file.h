#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// Token ids as other programs store them: where they lie in a file, and of which type they are.

namespace sluice::dataio {

enum class TokenFormat {
  kLlmc,     ///< llm.c: a header of 256 int32 (20240520, version 1, tokens), then uint16
  kRaw,      ///< ids and nothing else, as nanoGPT's .bin
  kNpy,      ///< NumPy's format, one dimension
  kMegatron  ///< NAME.bin with ids, NAME.idx with sequences and documents (MMIDIDX, version 1)
};

/// An integer type of 1, 2, 4 or 8 bytes, little endian.
struct TokenType {
  std::int64_t bytes = 2;
  bool is_signed = false;

  friend bool operator==(const TokenType&, const TokenType&) = default;
};

/// "uint16" and its like.
[[nodiscard]] std::string name_of(TokenType type);
[[nodiscard]] std::optional<TokenType> token_type_named(std::string_view name);

/// A file of ids whose header was read and agrees with its size.
struct TokenFile {
  std::filesystem::path path;     ///< of the ids
  std::filesystem::path index{};  ///< Megatron's .idx; empty otherwise
  TokenType type{};
  std::int64_t offset = 0;  ///< bytes before the first id
  std::int64_t tokens = 0;
  std::int64_t sequences = 0;  ///< Megatron: of the index
  std::int64_t documents = 0;  ///< likewise
};

/// Reads the header. `type`: as the user says; needed for kRaw, checked where the file says it itself.
/// Megatron: `path` is the .bin, the .idx, or their common name. Throws DataError.
[[nodiscard]] TokenFile open_token_file(const std::filesystem::path& path, TokenFormat format,
                                        std::optional<TokenType> type);

/// The ids in such bytes; what is above 2^63 - 1 becomes 2^63 - 1, an id in no vocabulary.
[[nodiscard]] std::vector<std::int64_t> decode_ids(std::string_view bytes, TokenType type);

}  // namespace sluice::dataio
