#pragma once

#include <sys/statvfs.h>

#include <cstdint>
#include <filesystem>
#include <optional>

namespace sluice::train {

/// What a file system has left for this user.
struct DiskRoom {
  std::int64_t bytes = 0;
  std::optional<std::int64_t> inodes{};  ///< none: it does not count them
};

/// Of the file system of `directory`; none where it cannot be asked, and errno says why.
[[nodiscard]] inline std::optional<DiskRoom> room_in(const std::filesystem::path& directory) {
  struct statvfs room {};
  if (::statvfs(directory.c_str(), &room) != 0) return std::nullopt;
  const auto counted = [](auto count) { return static_cast<std::int64_t>(count); };
  DiskRoom found{.bytes = counted(room.f_bavail) * counted(room.f_frsize)};
  if (room.f_files > 0) found.inodes = counted(room.f_favail);
  return found;
}

}  // namespace sluice::train
