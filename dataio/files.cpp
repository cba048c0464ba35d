#include "dataio/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <system_error>
#include <utility>

#include "dataio/error.h"

namespace sluice::dataio {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& call) {
  const int code = errno;
  throw DataError(path, "cannot " + call + ": " + std::generic_category().message(code));
}

}  // namespace

File::File(std::filesystem::path path, int flags)
    : path_(std::move(path)), descriptor_(::open(path_.c_str(), flags | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) fail(path_, "open");
}

File File::open_to_read(const std::filesystem::path& path) { return {path, O_RDONLY}; }
File File::open_to_write(const std::filesystem::path& path) { return {path, O_RDWR | O_CREAT | O_TRUNC}; }
File File::open_directory(const std::filesystem::path& path) { return {path, O_RDONLY | O_DIRECTORY}; }

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

std::int64_t File::read(char* to, std::int64_t bytes) {
  std::int64_t done = 0;
  while (done < bytes) {
    const ssize_t got = ::read(descriptor_, to + done, static_cast<std::size_t>(bytes - done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(path_, "read");
    if (got == 0) break;
    done += got;
  }
  return done;
}

void File::read_at(std::int64_t offset, char* to, std::int64_t bytes) const {
  std::int64_t done = 0;
  while (done < bytes) {
    const ssize_t got =
        ::pread(descriptor_, to + done, static_cast<std::size_t>(bytes - done), offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(path_, "read");
    if (got == 0) {
      throw DataError(path_, "ends at byte " + std::to_string(offset + done) + ", needed up to byte " +
                                 std::to_string(offset + bytes));
    }
    done += got;
  }
}

void File::write(const char* from, std::int64_t bytes) {
  std::int64_t done = 0;
  while (done < bytes) {
    const ssize_t put = ::write(descriptor_, from + done, static_cast<std::size_t>(bytes - done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail(path_, "write");
    done += put;
  }
}

void File::sync() {
  if (::fsync(descriptor_) != 0) fail(path_, "fsync");
}

bool File::try_lock() {
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return true;
  if (errno != EWOULDBLOCK) fail(path_, "lock");
  return false;
}

std::string read_file(const std::filesystem::path& path) {
  File file = File::open_to_read(path);
  std::string content;
  std::array<char, 1 << 16> buffer;
  for (;;) {
    const std::int64_t got = file.read(buffer.data(), static_cast<std::int64_t>(buffer.size()));
    if (got == 0) return content;
    content.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

void write_file(const std::filesystem::path& path, std::string_view content) {
  File file = File::open_to_write(path);
  file.write(content.data(), static_cast<std::int64_t>(content.size()));
  file.sync();
}

void sync_directory(const std::filesystem::path& path) { File::open_directory(path).sync(); }

std::string hex64(std::uint64_t value) {
  std::array<char, 17> digits{};
  std::snprintf(digits.data(), digits.size(), "%016" PRIx64, value);
  return digits.data();
}

}  // namespace sluice::dataio
