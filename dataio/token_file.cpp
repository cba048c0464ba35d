#include "dataio/token_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <regex>
#include <system_error>

#include "dataio/error.h"
#include "dataio/files.h"
#include "dataio/token_index.h"

namespace sluice::dataio {
namespace {

static_assert(std::endian::native == std::endian::little, "ids are read in the machine's own order");

struct NamedType {
  const char* name;
  TokenType type;
};

constexpr std::array<NamedType, 8> kTypes{{{"uint8", {1, false}},
                                           {"uint16", {2, false}},
                                           {"uint32", {4, false}},
                                           {"uint64", {8, false}},
                                           {"int8", {1, true}},
                                           {"int16", {2, true}},
                                           {"int32", {4, true}},
                                           {"int64", {8, true}}}};

std::int64_t size_of(const std::filesystem::path& path) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  if (error) throw DataError(path, "cannot be read: " + error.message());
  return static_cast<std::int64_t>(bytes);
}

void check_type(const TokenFile& file, const std::optional<TokenType>& said) {
  if (!said || *said == file.type) return;
  throw DataError(file.path, "holds " + name_of(file.type) + ", --dtype says " + name_of(*said));
}

/// Ids fill the file from `offset` to its end.
void measure(TokenFile& file) {
  const std::int64_t bytes = size_of(file.path) - file.offset;
  if (bytes % file.type.bytes != 0) {
    throw DataError(file.path, "has " + std::to_string(bytes) + " bytes of ids, no multiple of the " +
                                   std::to_string(file.type.bytes) + " of a " + name_of(file.type));
  }
  file.tokens = bytes / file.type.bytes;
}

void expect_tokens(const TokenFile& file, std::int64_t said) {
  if (file.tokens == said) return;
  throw DataError(file.path, "its header says " + std::to_string(said) + " tokens, " +
                                 std::to_string(file.tokens) + " lie after it (truncated?)");
}

TokenFile open_llmc(const std::filesystem::path& path, const std::optional<TokenType>& type) {
  constexpr std::int64_t kHeaderBytes = 256 * 4;
  constexpr std::int32_t kMagic = 20240520;
  constexpr std::int32_t kVersion = 1;
  const std::int64_t bytes = size_of(path);
  if (bytes < kHeaderBytes) {
    throw DataError(path, "has " + std::to_string(bytes) + " bytes, llm.c's header alone has 1024");
  }
  std::array<std::int32_t, 3> header{};
  File::open_to_read(path).read_at(0, reinterpret_cast<char*>(header.data()), sizeof header);
  if (header[0] != kMagic || header[1] != kVersion) {
    throw DataError(path, "begins with " + std::to_string(header[0]) + ", " + std::to_string(header[1]) +
                              "; llm.c's files begin with 20240520, 1 (nanoGPT's .bin has no header: "
                              "--tokens raw --dtype uint16)");
  }
  TokenFile file{.path = path, .type = {2, false}, .offset = kHeaderBytes};
  check_type(file, type);
  measure(file);
  expect_tokens(file, header[2]);
  return file;
}

TokenFile open_raw(const std::filesystem::path& path, const std::optional<TokenType>& type) {
  if (!type) throw DataError(path, "raw ids have no header: --dtype must say their type");
  TokenFile file{.path = path, .type = *type};
  measure(file);
  return file;
}

/// The header's Python dictionary, and where the ids begin.
struct NpyHeader {
  std::string text;
  std::int64_t offset = 0;
};

NpyHeader read_npy_header(const std::filesystem::path& path) {
  const File file = File::open_to_read(path);
  const std::int64_t bytes = size_of(path);
  std::array<unsigned char, 12> head{};
  if (bytes < static_cast<std::int64_t>(head.size())) throw DataError(path, "is too short for a .npy file");
  file.read_at(0, reinterpret_cast<char*>(head.data()), std::ssize(head));
  if (std::memcmp(head.data(), "\x93NUMPY", 6) != 0) {
    throw DataError(path, "does not begin with \\x93NUMPY: no .npy file");
  }
  const int version = head[6];
  if (version < 1 || version > 3)
    throw DataError(path, "has .npy version " + std::to_string(version) + ", known are 1 to 3");
  std::int64_t length = head[8] + 256 * head[9];
  if (version > 1) length += (std::int64_t{head[10]} << 16) + (std::int64_t{head[11]} << 24);
  const std::int64_t begin = version == 1 ? 10 : 12;
  if (begin + length > bytes) throw DataError(path, "ends within its .npy header");
  NpyHeader header{std::string(static_cast<std::size_t>(length), '\0'), begin + length};
  file.read_at(begin, header.text.data(), length);
  return header;
}

TokenType npy_type(const std::filesystem::path& path, const std::string& header) {
  std::smatch found;
  static const std::regex kDescr(R"('descr'\s*:\s*'([^']*)')");
  if (!std::regex_search(header, found, kDescr)) throw DataError(path, "its .npy header has no simple dtype");
  const std::string descr = found[1];
  const bool whole = descr.size() == 3 && (descr[1] == 'u' || descr[1] == 'i') &&
                     std::string_view("1248").find(descr[2]) != std::string_view::npos;
  const bool little = whole && (descr[0] == '<' || (descr[0] == '|' && descr[2] == '1'));
  if (!little) {
    throw DataError(path, "has dtype '" + descr + "'; allowed are little-endian integers, '|u1' to '<i8'");
  }
  return {descr[2] - '0', descr[1] == 'i'};
}

TokenFile open_npy(const std::filesystem::path& path, const std::optional<TokenType>& type) {
  const NpyHeader header = read_npy_header(path);
  std::smatch found;
  static const std::regex kShape(R"('shape'\s*:\s*\(\s*(\d{1,18})\s*,\s*\))");
  if (!std::regex_search(header.text, found, kShape)) {
    throw DataError(path,
                    "has not one dimension: its header is " + header.text.substr(0, header.text.find('\n')));
  }
  TokenFile file{.path = path, .type = npy_type(path, header.text), .offset = header.offset};
  check_type(file, type);
  measure(file);
  expect_tokens(file, std::stoll(found[1]));
  return file;
}

TokenFile open_megatron(const std::filesystem::path& path, const std::optional<TokenType>& type) {
  std::filesystem::path name = path;
  if (name.extension() == ".bin" || name.extension() == ".idx") name.replace_extension();
  TokenFile file{.path = name.string() + ".bin", .index = name.string() + ".idx"};
  const IndexHeader header = read_index_header(file.index);
  file.type = header.type;
  file.sequences = header.sequences;
  file.documents = header.documents;
  check_type(file, type);
  measure(file);
  return file;
}

template <typename T>
std::vector<std::int64_t> decode_as(std::string_view bytes) {
  std::vector<T> raw(bytes.size() / sizeof(T));
  std::memcpy(raw.data(), bytes.data(), raw.size() * sizeof(T));
  std::vector<std::int64_t> ids(raw.size());
  std::ranges::transform(raw, ids.begin(), [](T id) {
    constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
    return std::cmp_greater(id, kMost) ? kMost : static_cast<std::int64_t>(id);
  });
  return ids;
}

}  // namespace

std::string name_of(TokenType type) { return std::ranges::find(kTypes, type, &NamedType::type)->name; }

std::optional<TokenType> token_type_named(std::string_view name) {
  const auto* const found =
      std::ranges::find_if(kTypes, [&](const NamedType& known) { return name == known.name; });
  return found == kTypes.end() ? std::nullopt : std::optional(found->type);
}

TokenFile open_token_file(const std::filesystem::path& path, TokenFormat format,
                          std::optional<TokenType> type) {
  switch (format) {
    case TokenFormat::kLlmc:
      return open_llmc(path, type);
    case TokenFormat::kRaw:
      return open_raw(path, type);
    case TokenFormat::kNpy:
      return open_npy(path, type);
    case TokenFormat::kMegatron:
      break;
  }
  return open_megatron(path, type);
}

std::vector<std::int64_t> decode_ids(std::string_view bytes, TokenType type) {
  switch (type.bytes) {
    case 1:
      return type.is_signed ? decode_as<std::int8_t>(bytes) : decode_as<std::uint8_t>(bytes);
    case 2:
      return type.is_signed ? decode_as<std::int16_t>(bytes) : decode_as<std::uint16_t>(bytes);
    case 4:
      return type.is_signed ? decode_as<std::int32_t>(bytes) : decode_as<std::uint32_t>(bytes);
    default:
      return type.is_signed ? decode_as<std::int64_t>(bytes) : decode_as<std::uint64_t>(bytes);
  }
}

}  // namespace sluice::dataio
