#include "dataio/token_index.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "dataio/error.h"
#include "dataio/files.h"

namespace sluice::dataio {
namespace {

constexpr std::string_view kMagic{"MMIDIDX\0\0", 9};
constexpr std::int64_t kHeaderBytes = 9 + 8 + 1 + 8 + 8;
constexpr std::int64_t kSequenceBytes = 4 + 8;

std::int64_t word_at(const std::array<char, kHeaderBytes>& header, std::size_t at) {
  std::int64_t word = 0;
  std::memcpy(&word, header.data() + at, sizeof word);
  return word;
}

TokenType type_of_code(const std::filesystem::path& index, int code) {
  switch (code) {
    case 1:
      return {1, false};
    case 2:
      return {1, true};
    case 3:
      return {2, true};
    case 4:
      return {4, true};
    case 5:
      return {8, true};
    case 8:
      return {2, false};
    default:
      throw DataError(index, "has type code " + std::to_string(code) +
                                 "; ids are of 1 to 5 (uint8, int8, int16, int32, int64) or 8 (uint16)");
  }
}

/// Numbers of an array in a file, one after the other, from a buffer of bounded size.
template <typename T>
class ArrayReader {
 public:
  ArrayReader(const File& file, std::int64_t offset, std::int64_t count)
      : file_(file), offset_(offset), left_(count) {}

  [[nodiscard]] std::int64_t next() {
    if (at_ == buffer_.size()) fill();
    return buffer_[at_++];
  }

 private:
  void fill() {
    constexpr std::int64_t kMostNumbers = 1 << 15;
    buffer_.resize(static_cast<std::size_t>(std::min(left_, kMostNumbers)));
    const auto bytes = static_cast<std::int64_t>(buffer_.size() * sizeof(T));
    file_.read_at(offset_, reinterpret_cast<char*>(buffer_.data()), bytes);
    offset_ += bytes;
    left_ -= std::ssize(buffer_);
    at_ = 0;
  }

  const File& file_;
  std::int64_t offset_ = 0;
  std::int64_t left_ = 0;
  std::vector<T> buffer_;
  std::size_t at_ = 0;
};

}  // namespace

IndexHeader read_index_header(const std::filesystem::path& index) {
  const File file = File::open_to_read(index);
  const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(index));
  if (bytes < kHeaderBytes) throw DataError(index, "is too short for a Megatron index");
  std::array<char, kHeaderBytes> header{};
  file.read_at(0, header.data(), kHeaderBytes);
  if (std::string_view(header.data(), kMagic.size()) != kMagic) {
    throw DataError(index, "does not begin with MMIDIDX: no Megatron index");
  }
  if (const auto version = word_at(header, 9); version != 1) {
    throw DataError(index, "has index version " + std::to_string(version) + ", known is 1");
  }
  const std::int64_t sequences = word_at(header, 18);
  const std::int64_t entries = word_at(header, 26);
  const IndexHeader found{.type = type_of_code(index, static_cast<unsigned char>(header[17])),
                          .sequences = sequences,
                          .documents = entries - 1};
  const bool sane = sequences >= 0 && entries >= 1 && sequences < bytes && entries <= bytes;
  const std::int64_t expected = sane ? kHeaderBytes + sequences * kSequenceBytes + entries * 8 : -1;
  if (bytes != expected && bytes != expected + sequences) {
    throw DataError(index, "has " + std::to_string(bytes) + " bytes, which do not fit its " +
                               std::to_string(sequences) + " sequences and " + std::to_string(entries) +
                               " document entries");
  }
  return found;
}

struct IndexReader::Impl {
  explicit Impl(const TokenFile& token_file)
      : tokens(token_file),
        file(File::open_to_read(token_file.index)),
        lengths(file, kHeaderBytes, token_file.sequences),
        pointers(file, kHeaderBytes + 4 * token_file.sequences, token_file.sequences),
        starts(file, kHeaderBytes + kSequenceBytes * token_file.sequences, token_file.documents + 1),
        next_start(starts.next()) {
    if (next_start != 0) fail("document 0 begins at sequence " + std::to_string(next_start));
  }

  [[noreturn]] void fail(const std::string& reason) const { throw DataError(tokens.index, reason); }

  /// Documents without a sequence begin where the next one does, and are none.
  [[nodiscard]] bool starts_here() {
    bool starts_document = false;
    while (next_start == sequence && document < tokens.documents) {
      starts_document = true;
      next_start = starts.next();
      ++document;
      if (next_start < sequence || next_start > tokens.sequences) {
        fail("document entry " + std::to_string(document) + " is sequence " + std::to_string(next_start) +
             ": must be from " + std::to_string(sequence) + " to " + std::to_string(tokens.sequences));
      }
    }
    return starts_document;
  }

  const TokenFile& tokens;
  File file;
  ArrayReader<std::int32_t> lengths;
  ArrayReader<std::int64_t> pointers;
  ArrayReader<std::int64_t> starts;
  std::int64_t sequence = 0;
  std::int64_t document = 0;  ///< entries of `starts` that were passed
  std::int64_t next_start = 0;
};

IndexReader::IndexReader(const TokenFile& file) : impl_(std::make_unique<Impl>(file)) {}
IndexReader::~IndexReader() = default;

std::optional<IndexedSequence> IndexReader::next() {
  const TokenFile& tokens = impl_->tokens;
  const bool starts_document = impl_->starts_here();
  if (impl_->sequence == tokens.sequences) {
    if (impl_->next_start != tokens.sequences) impl_->fail("its documents do not end with its sequences");
    return std::nullopt;
  }
  const IndexedSequence found{impl_->pointers.next(), impl_->lengths.next(), starts_document};
  const std::int64_t bytes = tokens.tokens * tokens.type.bytes;
  if (found.begin < 0 || found.tokens < 0 || found.begin > bytes ||
      found.tokens > (bytes - found.begin) / tokens.type.bytes) {
    impl_->fail("sequence " + std::to_string(impl_->sequence) + " has " + std::to_string(found.tokens) +
                " tokens from byte " + std::to_string(found.begin) + ", but " + tokens.path.string() +
                " has " + std::to_string(bytes) + " bytes");
  }
  ++impl_->sequence;
  return found;
}

}  // namespace sluice::dataio
