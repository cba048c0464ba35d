#include "dataio/staging.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <system_error>

#include "dataio/error.h"

namespace sluice::dataio {
namespace {

std::filesystem::path staging_name(const std::filesystem::path& final_path) {
  std::string name = ".";
  name.append(final_path.filename().string()).append(".preparing");
  return final_path.parent_path() / name;
}

bool same_file(int descriptor, const std::filesystem::path& path) {
  struct stat open {};
  struct stat named {};
  return ::fstat(descriptor, &open) == 0 && ::stat(path.c_str(), &named) == 0 &&
         open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& what,
                       const std::error_code& error) {
  throw DataError(path, what + ": " + error.message());
}

/// Makes the directory, or takes over what a dead writer left, and locks it.
File acquire(const std::filesystem::path& staging) {
  std::error_code error;
  if (staging.has_parent_path()) std::filesystem::create_directories(staging.parent_path(), error);
  if (error) fail(staging.parent_path(), "cannot make the directory", error);
  for (;;) {
    std::filesystem::create_directory(staging, error);
    if (error) fail(staging, "cannot make the directory", error);
    File lock = File::open_directory(staging);
    if (!lock.try_lock()) throw DataError(staging, "another process is preparing this corpus now");
    if (same_file(lock.descriptor(), staging))
      return lock;  // else its owner has just published or removed it
  }
}

void clear(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::directory_iterator entries(directory, error);
  for (const auto& entry : entries) {
    std::filesystem::remove_all(entry.path(), error);
    if (error) fail(entry.path(), "cannot remove what an earlier run left", error);
  }
  if (error) fail(directory, "cannot list", error);
}

void rename_to_new(const std::filesystem::path& from, const std::filesystem::path& to) {
  int result = ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE);
  if (result != 0 && (errno == EINVAL || errno == ENOSYS)) {  // a file system without this flag
    result = std::filesystem::exists(to) ? (errno = EEXIST, -1) : ::rename(from.c_str(), to.c_str());
  }
  if (result != 0) fail(to, "cannot rename to this name", {errno, std::generic_category()});
}

}  // namespace

StagingDirectory::StagingDirectory(std::filesystem::path final_path)
    : final_(std::move(final_path)), staging_(staging_name(final_)), lock_(acquire(staging_)) {
  std::error_code error;
  if (std::filesystem::exists(std::filesystem::symlink_status(final_, error))) {
    std::filesystem::remove_all(staging_, error);
    throw DataError(final_, "exists already");
  }
  clear(staging_);
}

StagingDirectory::~StagingDirectory() {
  if (published_) return;
  std::error_code ignored;
  std::filesystem::remove_all(staging_, ignored);
}

void StagingDirectory::publish() {
  lock_.sync();
  rename_to_new(staging_, final_);
  published_ = true;
  sync_directory(final_.has_parent_path() ? final_.parent_path() : ".");
}

}  // namespace sluice::dataio
