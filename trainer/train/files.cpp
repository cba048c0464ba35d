#include "trainer/train/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace sluice::train {

namespace {

[[noreturn]] void fail(const char* call, const std::filesystem::path& path) {
  throw std::system_error(errno, std::generic_category(), fmt::format("{} {}", call, path.string()));
}

void write_all(int descriptor, std::string_view bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      fail("write", path);
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

int open_or_fail(const std::filesystem::path& path, int flags) {
  const int descriptor = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
  if (descriptor < 0) fail("open", path);
  return descriptor;
}

}  // namespace

DurableFile::DurableFile(std::filesystem::path path)
    : path_(std::move(path)), descriptor_(open_or_fail(path_, O_WRONLY | O_CREAT | O_TRUNC)) {}

DurableFile::~DurableFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void DurableFile::write(std::string_view bytes) { write_all(descriptor_, bytes, path_); }

void DurableFile::close() {
  if (::fsync(descriptor_) != 0) fail("fsync", path_);
  if (::close(std::exchange(descriptor_, -1)) != 0) fail("close", path_);
}

LineFile::LineFile(std::filesystem::path path)
    : path_(std::move(path)), descriptor_(open_or_fail(path_, O_WRONLY | O_CREAT | O_APPEND)) {}

LineFile::~LineFile() { ::close(descriptor_); }

void LineFile::append(std::string line) {
  line += '\n';
  write_all(descriptor_, line, path_);
}

void LineFile::append_bytes(std::string_view bytes) { write_all(descriptor_, bytes, path_); }

void LineFile::sync() {
  if (::fsync(descriptor_) != 0) fail("fsync", path_);
}

DirectoryLock::DirectoryLock(const std::filesystem::path& directory)
    : descriptor_(open_or_fail(directory, O_RDONLY | O_DIRECTORY)) {
  held_ = ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

DirectoryLock::~DirectoryLock() { ::close(descriptor_); }

void sync_path(const std::filesystem::path& path) {
  const int descriptor = open_or_fail(path, O_RDONLY);
  const int result = ::fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  errno = error;
  if (result != 0) fail("fsync", path);
}

void replace_file(const std::filesystem::path& path, std::string_view content) {
  const std::filesystem::path temporary = path.string() + std::string(kTemporarySuffix);
  DurableFile file(temporary);
  file.write(content);
  file.close();
  std::filesystem::rename(temporary, path);
  sync_path(path.has_parent_path() ? path.parent_path() : ".");
}

std::string read_file(const std::filesystem::path& path) {
  const int descriptor = open_or_fail(path, O_RDONLY);
  std::string content;
  std::string block(1 << 20, '\0');
  for (;;) {
    const ssize_t got = ::read(descriptor, block.data(), block.size());
    if (got > 0) content.append(block, 0, static_cast<std::size_t>(got));
    if (got == 0) break;
    if (got < 0 && errno != EINTR) {
      const int error = errno;
      ::close(descriptor);
      errno = error;
      fail("read", path);
    }
  }
  ::close(descriptor);
  return content;
}

void truncate_file(const std::filesystem::path& path, std::int64_t bytes) {
  if (::truncate(path.c_str(), bytes) != 0) fail("truncate", path);
  sync_path(path);
}

std::string digest_of(std::string_view bytes) {
  return fmt::format("{:016x}", XXH3_64bits(bytes.data(), bytes.size()));
}

}  // namespace sluice::train
