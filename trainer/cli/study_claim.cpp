#include "trainer/cli/study_claim.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>
#include <utility>

namespace sluice::cli {
namespace {

std::filesystem::path lock_file(const std::filesystem::path& run) { return run / "submit.lock"; }

}  // namespace

std::optional<RunClaim> RunClaim::take(const std::filesystem::path& run_directory) {
  const auto file = lock_file(run_directory);
  const int descriptor = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor < 0) throw std::system_error(errno, std::generic_category(), "open " + file.string());
  RunClaim claim(descriptor);
  // Who only looks (is_claimed) holds it for a moment.
  for (int attempt = 0; attempt < 20; ++attempt) {
    if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return claim;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return std::nullopt;
}

RunClaim::RunClaim(RunClaim&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

RunClaim& RunClaim::operator=(RunClaim&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

RunClaim::~RunClaim() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

bool is_claimed(const std::filesystem::path& run_directory) {
  const int descriptor = ::open(lock_file(run_directory).c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return false;
  const bool held = ::flock(descriptor, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  ::close(descriptor);
  return held;
}

}  // namespace sluice::cli
