#include "dataio/shard.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "dataio/error.h"
#include "dataio/h5.h"

namespace sluice::dataio {
namespace {

static_assert(std::endian::native == std::endian::little,
              "token bytes are written and read as they lie in memory");

constexpr const char* kShardFormat = "sluice-shard";
constexpr std::int64_t kLargest16BitVocabulary = 65536;

std::string error_text(int code) { return std::strerror(code); }

/// A file descriptor that closes itself.
class Descriptor {
 public:
  Descriptor(const std::filesystem::path& file, int flags)
      : fd_(::open(file.c_str(), flags | O_CLOEXEC, 0666)) {
    if (fd_ < 0) throw DataError(file, "cannot be opened: " + error_text(errno));
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator int() const { return fd_; }

 private:
  int fd_;
};

/// Takes the space now: a full disk is then found here, and not while HDF5 holds half-written metadata.
void reserve(int fd, const std::filesystem::path& file, std::int64_t begin, std::int64_t bytes) {
  if (bytes == 0) return;
  if (const int code = ::posix_fallocate(fd, begin, bytes); code != 0) {
    throw DataError(file, "no room for " + std::to_string(bytes) + " bytes: " + error_text(code));
  }
}

void write_all(int fd, const std::filesystem::path& file, std::span<const std::byte> bytes,
               std::int64_t offset) {
  while (!bytes.empty()) {
    const auto written = ::pwrite(fd, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) throw DataError(file, "writing failed: " + error_text(written < 0 ? errno : ENOSPC));
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    offset += written;
  }
}

std::int64_t blocks_of(std::int64_t bytes) { return (bytes + kDigestBlockBytes - 1) / kDigestBlockBytes; }

/// HDF5's signature at offset 0, asked before HDF5 so that the message is plain.
void check_magic(const std::filesystem::path& file) {
  constexpr std::array<unsigned char, 8> kSignature = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
  const Descriptor fd(file, O_RDONLY);
  std::array<unsigned char, 8> found{};
  const auto count = ::pread(fd, found.data(), found.size(), 0);
  if (count < 0) throw DataError(file, "cannot be read: " + error_text(errno));
  if (count == 0) throw DataError(file, "is empty (truncated to 0 bytes)");
  if (found != kSignature) throw DataError(file, "is no HDF5 file (wrong magic in its first 8 bytes)");
}

h5::File open_checked(const std::filesystem::path& file) {
  check_magic(file);
  auto shard = h5::File::open(file, h5::Access::kRead);
  const auto format = shard.string_attribute("format");
  if (!format)
    throw DataError(file, "has no attribute \"format\": not a shard, or one whose writing was not finished");
  if (*format != kShardFormat) {
    throw DataError(file, "has format \"" + *format + "\", expected \"" + kShardFormat + "\"");
  }
  const auto version = shard.integer_attribute("version");
  if (!version) throw DataError(file, "has no integer attribute \"version\"");
  if (*version < 1 || *version > kFormatVersion) {
    throw DataError(file, "has format version " + std::to_string(*version) + ", this program reads 1 to " +
                              std::to_string(kFormatVersion));
  }
  return shard;
}

h5::DatasetInfo dataset_of(const h5::File& shard, const std::filesystem::path& file, const std::string& name,
                           h5::ElementType expected, const char* expected_text) {
  const auto info = shard.dataset(name);
  if (!info) throw DataError(file, "has no dataset /" + name);
  if (info->rank != 1)
    throw DataError(file, "/" + name + " has rank " + std::to_string(info->rank) + ", expected 1");
  if (info->type != expected) {
    throw DataError(file, "/" + name + " is stored as " + info->type_text + ", expected " + expected_text);
  }
  return *info;
}

/// Where the tokens lie; they must be one piece of the file, so that pread alone can fetch them.
std::int64_t token_offset(const h5::DatasetInfo& tokens, const std::filesystem::path& file,
                          std::int64_t bytes) {
  if (tokens.layout != h5::StorageLayout::kContiguous) {
    throw DataError(file, "/tokens is chunked, compact or virtual, expected contiguous storage");
  }
  if (tokens.count == 0) return 0;
  if (!tokens.offset)
    throw DataError(file, "/tokens has no storage in this file (never written, or external)");
  const auto file_bytes = static_cast<std::int64_t>(std::filesystem::file_size(file));
  if (*tokens.offset + bytes > file_bytes) {
    throw DataError(file, "is truncated: tokens end at byte " + std::to_string(*tokens.offset + bytes) +
                              ", the file at byte " + std::to_string(file_bytes));
  }
  return *tokens.offset;
}

}  // namespace

struct ShardWriter::Impl {
  std::filesystem::path file;
  std::int64_t tokens;
  std::int64_t vocabulary_size;
  std::int64_t element_bytes;
  std::int64_t data_offset = 0;
  std::int64_t appended = 0;
  std::int64_t bytes_written = 0;
  std::vector<std::byte> block;
  std::vector<std::uint64_t> digests;
  std::vector<std::int64_t> documents;
  std::unique_ptr<Descriptor> fd;
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> digest{XXH3_createState(), XXH3_freeState};

  Impl(std::filesystem::path path, std::int64_t token_count, std::int64_t vocabulary)
      : file(std::move(path)), tokens(token_count), vocabulary_size(vocabulary) {
    if (tokens < 0 || vocabulary_size < 1 || vocabulary_size > (std::int64_t{1} << 31)) {
      throw std::invalid_argument("ShardWriter: " + std::to_string(tokens) + " tokens of a vocabulary of " +
                                  std::to_string(vocabulary_size) + " cannot be written");
    }
    element_bytes = vocabulary_size <= kLargest16BitVocabulary ? 2 : 4;
    XXH3_64bits_reset(digest.get());
    block.reserve(kDigestBlockBytes);
    probe_room();
    create();
    fd = std::make_unique<Descriptor>(file, O_WRONLY);
    reserve(*fd, file, data_offset, tokens * element_bytes);
  }

  /// HDF5 cannot close a file that does not fit, and crashes over it when the program ends: so room is sought
  /// before HDF5 sees the file.
  void probe_room() const {
    if (std::filesystem::exists(file)) throw DataError(file, "exists already");
    {
      const Descriptor trial(file, O_WRONLY | O_CREAT | O_EXCL);
      try {
        reserve(trial, file, 0, tokens * element_bytes + (1 << 20));
      } catch (...) {
        std::filesystem::remove(file);
        throw;
      }
    }
    std::filesystem::remove(file);
  }

  void create() {
    auto shard = h5::File::create(file);
    shard.create_dataset("tokens", element_bytes == 2 ? h5::ElementType::kUint16 : h5::ElementType::kUint32,
                         tokens);
    shard.create_dataset("digests", h5::ElementType::kUint64, blocks_of(tokens * element_bytes));
    data_offset = shard.dataset("tokens")->offset.value_or(0);
    shard.close();
  }

  template <typename Stored>
  void store(std::span<const std::int32_t> ids) {
    const auto old = block.size();
    block.resize(old + ids.size() * sizeof(Stored));
    auto* to = block.data() + old;
    for (const auto id : ids) {
      if (id < 0 || id >= vocabulary_size) {
        throw DataError(file, "token id " + std::to_string(id) + " is not below the vocabulary's size " +
                                  std::to_string(vocabulary_size));
      }
      const auto stored = static_cast<Stored>(id);
      std::memcpy(to, &stored, sizeof stored);
      to += sizeof stored;
    }
  }

  void flush_block() {
    if (block.empty()) return;
    digests.push_back(XXH3_64bits(block.data(), block.size()));
    XXH3_64bits_update(digest.get(), block.data(), block.size());
    write_all(*fd, file, block, data_offset + bytes_written);
    bytes_written += static_cast<std::int64_t>(block.size());
    block.clear();
  }

  /// The format attribute comes last: without it the file does not open as a shard.
  void finish() {
    // HDF5 appends the documents and its own metadata, a few KiB; the room is taken first for the reason
    // given above.
    constexpr std::int64_t kMetadataBytes = 64 * 1024;
    const auto end = static_cast<std::int64_t>(std::filesystem::file_size(file));
    reserve(*fd, file, end,
            kMetadataBytes + static_cast<std::int64_t>(documents.size() * sizeof(std::int64_t)));
    auto shard = h5::File::open(file, h5::Access::kReadWrite);
    shard.create_dataset("documents", h5::ElementType::kInt64, static_cast<std::int64_t>(documents.size()));
    shard.write("documents", documents);
    shard.write("digests", digests);
    shard.set_attribute("version", kFormatVersion);
    shard.set_attribute("vocabulary_size", vocabulary_size);
    shard.set_attribute("format", kShardFormat);
    shard.close();
    if (::fsync(*fd) != 0) throw DataError(file, "fsync failed: " + error_text(errno));
  }
};

ShardWriter::ShardWriter(std::filesystem::path file, std::int64_t tokens, std::int64_t vocabulary_size)
    : impl_(std::make_unique<Impl>(std::move(file), tokens, vocabulary_size)) {}
ShardWriter::~ShardWriter() = default;

void ShardWriter::append(std::span<const std::int32_t> ids) {
  auto& state = *impl_;
  if (static_cast<std::int64_t>(ids.size()) > state.tokens - state.appended) {
    throw std::invalid_argument("ShardWriter: " + std::to_string(ids.size()) + " tokens appended after " +
                                std::to_string(state.appended) + " of " + std::to_string(state.tokens));
  }
  while (!ids.empty()) {
    const auto room = (static_cast<std::size_t>(kDigestBlockBytes) - state.block.size()) /
                      static_cast<std::size_t>(state.element_bytes);
    const auto piece = ids.first(std::min(room, ids.size()));
    state.element_bytes == 2 ? state.store<std::uint16_t>(piece) : state.store<std::uint32_t>(piece);
    state.appended += static_cast<std::int64_t>(piece.size());
    ids = ids.subspan(piece.size());
    if (std::ssize(state.block) == kDigestBlockBytes) state.flush_block();
  }
}

void ShardWriter::begin_document() {
  if (impl_->appended == impl_->tokens) {
    throw std::invalid_argument("ShardWriter: a document cannot start after the last of " +
                                std::to_string(impl_->tokens) + " tokens");
  }
  impl_->documents.push_back(impl_->appended);
}

ShardSummary ShardWriter::close() {
  auto& state = *impl_;
  if (state.appended != state.tokens) {
    throw std::invalid_argument("ShardWriter: closed after " + std::to_string(state.appended) + " of " +
                                std::to_string(state.tokens) + " tokens");
  }
  state.flush_block();
  state.finish();
  return {state.file.filename().string(), state.tokens, static_cast<std::int64_t>(state.documents.size()),
          XXH3_64bits_digest(state.digest.get())};
}

ShardLayout open_shard(const std::filesystem::path& file) {
  const auto shard = open_checked(file);
  ShardLayout layout;
  layout.file = std::filesystem::absolute(file).string();
  layout.vocabulary_size = shard.integer_attribute("vocabulary_size").value_or(0);
  if (layout.vocabulary_size < 1)
    throw DataError(file, "has no positive integer attribute \"vocabulary_size\"");
  const bool narrow = layout.vocabulary_size <= kLargest16BitVocabulary;
  layout.element_bytes = narrow ? 2 : 4;
  const auto tokens = dataset_of(
      shard, file, "tokens", narrow ? h5::ElementType::kUint16 : h5::ElementType::kUint32,
      narrow ? "16-bit unsigned integer, little endian" : "32-bit unsigned integer, little endian");
  layout.tokens = tokens.count;
  const auto bytes = layout.tokens * layout.element_bytes;
  layout.data_offset = token_offset(tokens, file, bytes);
  const auto documents =
      dataset_of(shard, file, "documents", h5::ElementType::kInt64, "64-bit signed integer, little endian");
  layout.documents = documents.count;
  const auto digests =
      dataset_of(shard, file, "digests", h5::ElementType::kUint64, "64-bit unsigned integer, little endian");
  if (digests.count != blocks_of(bytes)) {
    throw DataError(file, "has " + std::to_string(digests.count) + " digests for " + std::to_string(bytes) +
                              " bytes of tokens, expected " + std::to_string(blocks_of(bytes)));
  }
  layout.block_digests = shard.read_uint64("digests");
  return layout;
}

std::vector<std::int64_t> read_document_offsets(const std::filesystem::path& file) {
  const auto shard = open_checked(file);
  (void)dataset_of(shard, file, "documents", h5::ElementType::kInt64, "64-bit signed integer, little endian");
  return shard.read_int64("documents");
}

}  // namespace sluice::dataio
