#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

// Files that survive a crash. Failures of the operating system are std::system_error naming call and path.

namespace sluice::train {

/// A file being written from its start. Everything goes straight to the kernel; close() makes it durable.
class DurableFile {
 public:
  /// Creates or truncates `path`.
  explicit DurableFile(std::filesystem::path path);
  /// Without close(): what was written stays, durable or not.
  ~DurableFile();
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  void write(std::string_view bytes);
  /// fsync, then close.
  void close();

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

/// Appends whole lines or records, each handed to the kernel by one write as it comes: a killed process tears
/// at most the last one.
class LineFile {
 public:
  explicit LineFile(std::filesystem::path path);
  ~LineFile();
  LineFile(const LineFile&) = delete;
  LineFile& operator=(const LineFile&) = delete;

  /// `line` without its newline.
  void append(std::string line);
  /// As they are.
  void append_bytes(std::string_view bytes);
  /// Blocks until every line is on disk.
  void sync();

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

/// Keeps other processes from writing to a directory, until it is destroyed or the process ends, however that
/// ends. Where the file system knows no locks, nothing is locked.
class DirectoryLock {
 public:
  explicit DirectoryLock(const std::filesystem::path& directory);
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

  /// False: another process holds it.
  [[nodiscard]] bool held() const { return held_; }

 private:
  int descriptor_ = -1;
  bool held_ = true;
};

/// fsync of a file, or of a directory's entries.
void sync_path(const std::filesystem::path& path);
/// Content under a temporary name beside `path`, fsync, rename: readers see the old file or the new one.
void replace_file(const std::filesystem::path& path, std::string_view content);
/// Throws std::system_error naming the path.
[[nodiscard]] std::string read_file(const std::filesystem::path& path);
/// Ends the file after `bytes` bytes and makes that durable.
void truncate_file(const std::filesystem::path& path, std::int64_t bytes);

/// XXH3-64 as 16 hex digits.
[[nodiscard]] std::string digest_of(std::string_view bytes);

/// Names ending so are unfinished work of ours; nothing reads them.
inline constexpr std::string_view kTemporarySuffix = ".tmp";

}  // namespace sluice::train
