#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "dataio/corpus.h"
#include "dataio/error.h"
#include "dataio/open_files.h"

namespace sluice::dataio {
namespace {

/// Bytes read, of at most one block; each thread has its own.
std::span<std::byte> scratch(std::int64_t bytes) {
  thread_local std::vector<std::byte> buffer;
  if (std::ssize(buffer) < bytes) buffer.resize(static_cast<std::size_t>(bytes));
  return std::span(buffer).first(static_cast<std::size_t>(bytes));
}

/// Widens stored ids to int32; false if one is above `largest` (below 2^31). Branchless, so that it
/// vectorises.
template <typename Stored>
bool widen(const std::byte* from, std::span<std::int32_t> out, std::uint32_t largest) {
  std::uint32_t wrong = 0;
  for (std::size_t k = 0; k < out.size(); ++k) {
    Stored stored;
    std::memcpy(&stored, from + k * sizeof stored, sizeof stored);
    const std::uint32_t id = stored;
    out[k] = static_cast<std::int32_t>(id);
    wrong |= (largest - id) | id;  // the top bit: id is above `largest`, or above 2^31
  }
  return (wrong >> 31) == 0;
}

std::vector<std::string> paths_of(const SplitLayout& split) {
  std::vector<std::string> paths;
  for (const auto& shard : split.shards) paths.push_back(shard.file);
  return paths;
}

}  // namespace

struct SplitReader::Impl {
  SplitLayout split;
  std::uint32_t largest_id;
  ReaderOptions options;
  std::vector<std::int64_t> starts;       ///< first token of each shard, and the end of the last
  std::vector<std::int64_t> first_block;  ///< likewise in digest blocks
  std::unique_ptr<std::atomic<std::uint64_t>[]> checked;  ///< a bit for each block whose digest was right
  OpenFiles files;

  Impl(SplitLayout layout, std::int64_t vocabulary, ReaderOptions reader_options)
      : split(std::move(layout)),
        largest_id(static_cast<std::uint32_t>(vocabulary - 1)),
        options(reader_options),
        files(paths_of(split), options.max_open_files, [this](std::int64_t shard) { forget(shard); }) {
    starts.push_back(0);
    first_block.push_back(0);
    for (const auto& shard : split.shards) {
      starts.push_back(starts.back() + shard.tokens);
      first_block.push_back(first_block.back() + std::ssize(shard.block_digests));
    }
    checked =
        std::make_unique<std::atomic<std::uint64_t>[]>(static_cast<std::size_t>(first_block.back() / 64 + 1));
  }

  [[nodiscard]] bool is_checked(std::int64_t block) const {
    return ((checked[static_cast<std::size_t>(block / 64)].load(std::memory_order_acquire) >> (block % 64)) &
            1) != 0;
  }
  void set_checked(std::int64_t block) {
    checked[static_cast<std::size_t>(block / 64)].fetch_or(std::uint64_t{1} << (block % 64));
  }
  /// A shard that is another file now: nothing of it is checked any more.
  void forget(std::int64_t shard) {
    for (auto block = first_block[static_cast<std::size_t>(shard)];
         block < first_block[static_cast<std::size_t>(shard) + 1]; ++block) {
      checked[static_cast<std::size_t>(block / 64)].fetch_and(~(std::uint64_t{1} << (block % 64)));
    }
  }

  /// Bytes [begin, begin + to.size()) of a shard's token bytes.
  void fetch(const ShardLayout& shard, int descriptor, std::int64_t begin, std::span<std::byte> to) const {
    if (options.injected_delay.count() > 0) std::this_thread::sleep_for(options.injected_delay);
    auto offset = shard.data_offset + begin;
    while (!to.empty()) {
      const auto count = ::pread(descriptor, to.data(), to.size(), offset);
      if (count > 0) {
        to = to.subspan(static_cast<std::size_t>(count));
        offset += count;
      } else if (count == 0) {
        struct stat status {};
        ::fstat(descriptor, &status);
        throw DataError(shard.file,
                        "is truncated: tokens end at byte " +
                            std::to_string(shard.data_offset + shard.tokens * shard.element_bytes) +
                            ", the file at byte " + std::to_string(status.st_size));
      } else if (errno != EINTR) {
        throw DataError(shard.file,
                        "cannot be read at byte " + std::to_string(offset) + ": " + std::strerror(errno));
      }
    }
  }

  void check_digest(const ShardLayout& shard, std::int64_t block, std::span<const std::byte> bytes) const {
    const auto expected = shard.block_digests[static_cast<std::size_t>(block)];
    if (XXH3_64bits(bytes.data(), bytes.size()) == expected) return;
    const auto begin = shard.data_offset + block * kDigestBlockBytes;
    throw DataError(shard.file, "is damaged: bytes " + std::to_string(begin) + " to " +
                                    std::to_string(begin + std::ssize(bytes)) +
                                    " do not have the digest of block " + std::to_string(block));
  }

  /// Reads at least one byte and at most [begin, end) of a shard's token bytes; returns what it read, valid
  /// until the thread's next call. A block that was not checked is read whole, checked, and served from what
  /// was read.
  std::span<const std::byte> fetch_checked(std::int64_t number, int descriptor, std::int64_t begin,
                                           std::int64_t end) {
    const auto& shard = split.shards[static_cast<std::size_t>(number)];
    const auto base = first_block[static_cast<std::size_t>(number)];
    const auto block = begin / kDigestBlockBytes;
    const auto block_begin = block * kDigestBlockBytes;
    const auto block_end = std::min(block_begin + kDigestBlockBytes, shard.tokens * shard.element_bytes);
    if (!options.check_digests || is_checked(base + block)) {
      const bool next_too = end > block_end && (!options.check_digests || is_checked(base + block + 1));
      const auto stop = std::min({end, begin + kDigestBlockBytes, next_too ? end : block_end});
      const auto bytes = scratch(stop - begin);
      fetch(shard, descriptor, begin, bytes);
      return bytes;
    }
    const auto bytes = scratch(block_end - block_begin);
    fetch(shard, descriptor, block_begin, bytes);
    check_digest(shard, block, bytes);
    set_checked(base + block);
    return bytes.subspan(static_cast<std::size_t>(begin - block_begin),
                         static_cast<std::size_t>(std::min(end, block_end) - begin));
  }

  void read_shard(std::int64_t number, std::int64_t first, std::span<std::int32_t> out) {
    const auto& shard = split.shards[static_cast<std::size_t>(number)];
    const auto use = files.use(number);
    const auto end = (first + std::ssize(out)) * shard.element_bytes;
    for (auto begin = first * shard.element_bytes; begin < end;) {
      const auto bytes = fetch_checked(number, use.descriptor(), begin, end);
      const auto piece = out.first(bytes.size() / static_cast<std::size_t>(shard.element_bytes));
      const bool valid = shard.element_bytes == 2 ? widen<std::uint16_t>(bytes.data(), piece, largest_id)
                                                  : widen<std::uint32_t>(bytes.data(), piece, largest_id);
      if (!valid) report_wrong_id(shard, begin / shard.element_bytes, piece);
      out = out.subspan(piece.size());
      begin += std::ssize(bytes);
    }
  }

  [[noreturn]] void report_wrong_id(const ShardLayout& shard, std::int64_t first,
                                    std::span<const std::int32_t> ids) const {
    const auto wrong =
        std::ranges::find_if(ids, [&](auto id) { return static_cast<std::uint32_t>(id) > largest_id; });
    throw DataError(shard.file, "token " + std::to_string(first + (wrong - ids.begin())) + " has id " +
                                    std::to_string(static_cast<std::uint32_t>(*wrong)) +
                                    ", not below the vocabulary's size " +
                                    std::to_string(largest_id + std::int64_t{1}));
  }
};

SplitReader::SplitReader(SplitLayout split, std::int64_t vocabulary_size, ReaderOptions options) {
  if (vocabulary_size < 1 || vocabulary_size > (std::int64_t{1} << 31)) {
    throw std::invalid_argument("SplitReader: vocabulary size " + std::to_string(vocabulary_size));
  }
  impl_ = std::make_unique<Impl>(std::move(split), vocabulary_size, options);
}
SplitReader::~SplitReader() = default;

void SplitReader::read(std::int64_t begin, std::span<std::int32_t> out) {
  const auto& starts = impl_->starts;
  if (begin < 0 || begin > starts.back() || std::ssize(out) > starts.back() - begin) {
    throw std::invalid_argument("SplitReader: tokens [" + std::to_string(begin) + ", " +
                                std::to_string(begin + std::ssize(out)) + ") of a split of " +
                                std::to_string(starts.back()));
  }
  auto number = std::ranges::upper_bound(starts, begin) - starts.begin() - 1;
  while (!out.empty()) {
    const auto shard_begin = starts[static_cast<std::size_t>(number)];
    const auto shard_end = starts[static_cast<std::size_t>(number) + 1];
    const auto piece = out.first(static_cast<std::size_t>(std::min(shard_end - begin, std::ssize(out))));
    if (!piece.empty()) impl_->read_shard(number, begin - shard_begin, piece);  // a shard may be empty
    begin += std::ssize(piece);
    out = out.subspan(piece.size());
    ++number;
  }
}

const SplitLayout& SplitReader::split() const { return impl_->split; }

}  // namespace sluice::dataio
