#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dataio/corpus.h"
#include "trainer/train/files.h"

namespace sluice::train {

/// Why `needed` bytes are not to be written where `free` are left; nothing where they fit with a twentieth to
/// spare.
[[nodiscard]] std::optional<std::string> room_fault(std::int64_t needed, std::int64_t free);

/// A corpus being copied to another directory, piece by piece. The copy is PARENT/corpus-X, X a digest of
/// what the corpus holds and how it is cut into files. It is written under another name, synced and renamed,
/// and one process at a time writes to PARENT: what has that name is whole.
class CorpusCopy {
 public:
  enum class Outcome { kCopied, kFound };

  CorpusCopy(const dataio::Corpus& corpus, std::filesystem::path parent);
  ~CorpusCopy();
  CorpusCopy(const CorpusCopy&) = delete;
  CorpusCopy& operator=(const CorpusCopy&) = delete;

  /// Goes on for about `time`; true when the copy stands. Waits where another process writes to PARENT.
  /// Throws InputError for want of room, std::system_error, and DataError where what was read does not have
  /// the corpus's digests; nothing of the copy is left then.
  bool advance(std::chrono::microseconds time);

  [[nodiscard]] const std::filesystem::path& target() const { return target_; }
  [[nodiscard]] Outcome outcome() const { return outcome_; }  ///< once advance() was true
  [[nodiscard]] std::int64_t bytes() const { return bytes_; }

  /// Whether `target` holds every file at its size, and the shards' first and last blocks have their digests
  /// (all others are checked when they are first read). Never throws.
  [[nodiscard]] bool stands() const;

 private:
  struct Item;
  struct Piece;
  [[nodiscard]] bool begin();
  void step();
  void finish();

  std::filesystem::path parent_;
  std::filesystem::path target_;
  std::filesystem::path temporary_;
  std::vector<Item> items_;
  std::int64_t bytes_ = 0;
  Outcome outcome_ = Outcome::kCopied;
  std::unique_ptr<DirectoryLock> lock_;
  std::unique_ptr<Piece> piece_;  ///< the file being copied
  std::size_t next_ = 0;
  bool done_ = false;
};

}  // namespace sluice::train
