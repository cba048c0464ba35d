#include "dataio/spool.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "dataio/error.h"

namespace sluice::dataio {
namespace {

static_assert(std::endian::native == std::endian::little, "tokens are stored in the machine's own order");

constexpr std::size_t kBufferBytes = 1 << 20;
constexpr std::int64_t kRunTokens = 1 << 18;
constexpr std::int64_t kStartBytes = sizeof(std::int64_t);

}  // namespace

std::int64_t element_bytes_for(std::int64_t vocabulary_size) { return vocabulary_size <= 65536 ? 2 : 4; }

std::vector<std::int32_t> unpack_tokens(std::string_view bytes, std::int64_t element_bytes) {
  std::vector<std::int32_t> tokens(bytes.size() / static_cast<std::size_t>(element_bytes));
  if (element_bytes == 4) {
    std::memcpy(tokens.data(), bytes.data(), bytes.size());
    return tokens;
  }
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    std::uint16_t token = 0;
    std::memcpy(&token, bytes.data() + 2 * i, 2);
    tokens[i] = token;
  }
  return tokens;
}

std::string pack_tokens(std::span<const std::int32_t> tokens, std::int64_t element_bytes) {
  std::string bytes(tokens.size() * static_cast<std::size_t>(element_bytes), '\0');
  if (element_bytes == 4) {
    std::memcpy(bytes.data(), tokens.data(), bytes.size());
    return bytes;
  }
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto token = static_cast<std::uint16_t>(tokens[i]);
    std::memcpy(bytes.data() + 2 * i, &token, 2);
  }
  return bytes;
}

Spool::Spool(const std::filesystem::path& directory, const std::string& name, std::int64_t vocabulary_size)
    : element_bytes_(element_bytes_for(vocabulary_size)),
      token_file_(File::open_to_write(directory / (name + ".tokens"))),
      start_file_(File::open_to_write(directory / (name + ".starts"))) {}

void Spool::append(std::string_view tokens) {
  token_buffer_ += tokens;
  tokens_ += static_cast<std::int64_t>(tokens.size()) / element_bytes_;
  if (token_buffer_.size() >= kBufferBytes) flush(token_file_, token_buffer_);
}

void Spool::append(std::int32_t token) { append(pack_tokens({&token, 1}, element_bytes_)); }

void Spool::begin_document() {
  start_buffer_.append(reinterpret_cast<const char*>(&tokens_), sizeof tokens_);
  ++starts_;
  if (start_buffer_.size() >= kBufferBytes) flush(start_file_, start_buffer_);
}

void Spool::finish() {
  flush(token_file_, token_buffer_);
  flush(start_file_, start_buffer_);
}

void Spool::flush(File& file, std::string& buffer) {
  file.write(buffer.data(), static_cast<std::int64_t>(buffer.size()));
  buffer.clear();
}

std::int64_t Spool::start_at(std::int64_t index) const {
  std::int64_t start = 0;
  start_file_.read_at(index * kStartBytes, reinterpret_cast<char*>(&start), kStartBytes);
  return start;
}

std::int64_t Spool::first_start_from(std::int64_t token) const {
  std::int64_t low = 0;
  std::int64_t high = starts_;
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    if (start_at(middle) < token) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

std::vector<std::int32_t> Spool::read(std::int64_t begin, std::int64_t end) const {
  std::string bytes(static_cast<std::size_t>((end - begin) * element_bytes_), '\0');
  token_file_.read_at(begin * element_bytes_, bytes.data(), static_cast<std::int64_t>(bytes.size()));
  return unpack_tokens(bytes, element_bytes_);
}

void Spool::for_each_run(std::int64_t begin, std::int64_t end,
                         const std::function<void(const SpoolRun&)>& take) const {
  std::int64_t next = first_start_from(begin);
  std::vector<std::int64_t> starts;
  for (std::int64_t block = begin; block < end; block += kRunTokens) {
    const std::int64_t block_end = std::min(block + kRunTokens, end);
    const std::vector<std::int32_t> tokens = read(block, block_end);
    const std::int64_t past = first_start_from(block_end);
    starts.resize(static_cast<std::size_t>(past - next));
    start_file_.read_at(next * kStartBytes, reinterpret_cast<char*>(starts.data()),
                        (past - next) * kStartBytes);
    next = past;
    const auto run = [&](std::int64_t from, std::int64_t to, bool starts_document) {
      const auto all = std::span(tokens);
      take({all.subspan(static_cast<std::size_t>(from - block), static_cast<std::size_t>(to - from)),
            starts_document});
    };
    std::int64_t from = block;
    bool at_start = false;
    for (const std::int64_t start : starts) {
      if (start > from) run(from, start, at_start);
      from = start;
      at_start = true;
    }
    run(from, block_end, at_start);
  }
}

void Spool::remove() {
  for (const File* file : {&token_file_, &start_file_}) {
    std::error_code error;
    std::filesystem::remove(file->path(), error);
    if (error) throw DataError(file->path(), "cannot remove: " + error.message());
  }
}

}  // namespace sluice::dataio
