#include "trainer/train/corpus_copy.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <system_error>
#include <thread>
#include <utility>

#include "dataio/error.h"
#include "trainer/train/disk_room.h"
#include "trainer/train/errors.h"

namespace fs = std::filesystem;

namespace sluice::train {
namespace {

constexpr std::int64_t kPieceBytes = 4 << 20;
constexpr std::chrono::milliseconds kBetweenTries{50};

std::int64_t free_bytes(const fs::path& directory) {
  const auto room = room_in(directory);
  if (!room) throw std::system_error(errno, std::generic_category(), "statvfs " + directory.string());
  return room->bytes;
}

/// Two corpora with the same name hold the same tokens at the same places of files of the same names.
std::string copy_name(const dataio::Corpus& corpus) {
  std::string text = corpus.fingerprint();
  for (const dataio::SplitLayout& split : corpus.splits())
    for (const dataio::ShardLayout& shard : split.shards)
      text += fmt::format("\n{} {} {} {} {} {:016x}", split.name, fs::path(shard.file).filename().string(),
                          shard.tokens, shard.data_offset, shard.element_bytes, shard.digest);
  return "corpus-" + digest_of(text);
}

/// Of a block of a shard's token bytes in `file`; none where it cannot be read.
std::optional<std::uint64_t> block_digest(const fs::path& file, const dataio::ShardLayout& shard,
                                          std::size_t block) {
  const std::int64_t begin = static_cast<std::int64_t>(block) * dataio::kDigestBlockBytes;
  const std::int64_t count = std::min(dataio::kDigestBlockBytes, shard.tokens * shard.element_bytes - begin);
  std::string bytes(static_cast<std::size_t>(count), '\0');
  std::ifstream in(file, std::ios::binary);
  in.seekg(shard.data_offset + begin);
  if (!in.read(bytes.data(), count)) return std::nullopt;
  return XXH3_64bits(bytes.data(), bytes.size());
}

}  // namespace

std::optional<std::string> room_fault(std::int64_t needed, std::int64_t free) {
  if (free >= needed + needed / 20) return std::nullopt;
  return fmt::format("the corpus has {} bytes, of which {} are free there (a twentieth more is wanted)",
                     needed, free);
}

/// A file of the corpus; `shard` has the digests of one that holds tokens.
struct CorpusCopy::Item {
  fs::path source;
  std::int64_t bytes = 0;
  std::optional<dataio::ShardLayout> shard{};
};

/// A file while it is copied: its token bytes go through a digest on their way.
struct CorpusCopy::Piece {
  Piece(const Item& from, const fs::path& to)
      : item(from), out(to), hash(XXH3_createState(), XXH3_freeState) {
    descriptor = ::open(item.source.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
      throw std::system_error(errno, std::generic_category(), "open " + item.source.string());
    XXH3_64bits_reset(hash.get());
    buffer.resize(kPieceBytes);
  }
  ~Piece() { ::close(descriptor); }
  Piece(const Piece&) = delete;
  Piece& operator=(const Piece&) = delete;

  /// False at the file's end.
  bool copy_some() {
    ssize_t got = -1;
    do {
      got = ::read(descriptor, buffer.data(), buffer.size());
    } while (got < 0 && errno == EINTR);
    if (got < 0) throw std::system_error(errno, std::generic_category(), "read " + item.source.string());
    digest(got);
    out.write(std::string_view(buffer.data(), static_cast<std::size_t>(got)));
    at += got;
    return got > 0;
  }

  void digest(std::int64_t count) {
    if (!item.shard) return;
    const std::int64_t begin = item.shard->data_offset;
    const std::int64_t end = begin + item.shard->tokens * item.shard->element_bytes;
    const std::int64_t first = std::max(begin, at), last = std::min(end, at + count);
    if (first < last)
      XXH3_64bits_update(hash.get(), buffer.data() + (first - at), static_cast<std::size_t>(last - first));
  }

  void check() const {
    if (at != item.bytes)
      throw dataio::DataError(item.source,
                              fmt::format("had {} bytes, and {} when it was copied", item.bytes, at));
    if (item.shard && XXH3_64bits_digest(hash.get()) != item.shard->digest)
      throw dataio::DataError(item.source, "is damaged: its tokens do not have the digest in corpus.json");
  }

  const Item& item;
  DurableFile out;
  int descriptor = -1;
  std::int64_t at = 0;
  std::string buffer;
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> hash;
};

CorpusCopy::CorpusCopy(const dataio::Corpus& corpus, fs::path parent)
    : parent_(fs::absolute(parent)), target_(parent_ / copy_name(corpus)), temporary_(target_) {
  temporary_ += kTemporarySuffix;
  for (const char* name : {"tokenizer.json", "tokenizer.model"})
    if (fs::exists(corpus.directory() / name)) items_.push_back({.source = corpus.directory() / name});
  for (const dataio::SplitLayout& split : corpus.splits())
    for (const dataio::ShardLayout& shard : split.shards)
      items_.push_back({.source = shard.file, .shard = shard});
  items_.push_back({.source = corpus.directory() / "corpus.json"});
  for (Item& item : items_) bytes_ += item.bytes = static_cast<std::int64_t>(fs::file_size(item.source));
}

CorpusCopy::~CorpusCopy() {
  piece_.reset();
  std::error_code ignored;
  if (lock_ && !done_) fs::remove_all(temporary_, ignored);
}

bool CorpusCopy::stands() const {
  return std::ranges::all_of(items_, [this](const Item& item) {
    const fs::path file = target_ / item.source.filename();
    std::error_code error;
    if (fs::file_size(file, error) != static_cast<std::uintmax_t>(item.bytes) || error) return false;
    if (!item.shard || item.shard->block_digests.empty()) return true;
    const auto& digests = item.shard->block_digests;
    return block_digest(file, *item.shard, 0) == digests.front() &&
           block_digest(file, *item.shard, digests.size() - 1) == digests.back();
  });
}

/// Becomes the one that writes to the parent, if nobody else is; what an earlier one left half-way goes.
bool CorpusCopy::begin() {
  fs::create_directories(parent_);
  auto lock = std::make_unique<DirectoryLock>(parent_);
  if (!lock->held()) return false;
  lock_ = std::move(lock);
  if (stands()) {
    outcome_ = Outcome::kFound;
    done_ = true;
    lock_.reset();
    return true;
  }
  fs::remove_all(temporary_);
  fs::remove_all(target_);
  if (const auto fault = room_fault(bytes_, free_bytes(parent_))) throw InputError(*fault);
  fs::create_directory(temporary_);
  return true;
}

void CorpusCopy::step() {
  const Item& item = items_[next_];
  if (!piece_) piece_ = std::make_unique<Piece>(item, temporary_ / item.source.filename());
  if (piece_->copy_some()) return;
  piece_->check();
  piece_->out.close();
  piece_.reset();
  ++next_;
}

void CorpusCopy::finish() {
  sync_path(temporary_);
  fs::rename(temporary_, target_);
  sync_path(parent_);
  done_ = true;
  lock_.reset();
}

bool CorpusCopy::advance(std::chrono::microseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (!done_ && std::chrono::steady_clock::now() < end) {
    if (!lock_) {
      if (!begin()) std::this_thread::sleep_for(kBetweenTries);
    } else if (next_ < items_.size()) {
      step();
    } else {
      finish();
    }
  }
  return done_;
}

}  // namespace sluice::train
