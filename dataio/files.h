#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace sluice::dataio {

/// Owner of a file descriptor; every operation that fails throws DataError naming the file, the call and the
/// reason.
class File {
 public:
  static File open_to_read(const std::filesystem::path& path);
  /// Creates or empties.
  static File open_to_write(const std::filesystem::path& path);
  static File open_directory(const std::filesystem::path& path);
  ~File();
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  /// Reads up to `bytes` at the file's position; fewer only at its end.
  std::int64_t read(char* to, std::int64_t bytes);
  /// Reads exactly `bytes` at `offset`; a shorter file is an error.
  void read_at(std::int64_t offset, char* to, std::int64_t bytes) const;
  void write(const char* from, std::int64_t bytes);
  void sync();
  /// Tries to take the exclusive lock that lives as long as this object: false when somebody else holds it.
  [[nodiscard]] bool try_lock();
  [[nodiscard]] int descriptor() const { return descriptor_; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  File(std::filesystem::path path, int flags);
  std::filesystem::path path_;
  int descriptor_ = -1;
};

/// The content of a file that fits in memory. Throws DataError.
[[nodiscard]] std::string read_file(const std::filesystem::path& path);
/// Writes and fsyncs a file. Throws DataError.
void write_file(const std::filesystem::path& path, std::string_view content);
/// Makes the names in a directory durable. Throws DataError.
void sync_directory(const std::filesystem::path& path);
/// 16 hex digits.
[[nodiscard]] std::string hex64(std::uint64_t value);

}  // namespace sluice::dataio
