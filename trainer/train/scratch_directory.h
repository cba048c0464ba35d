#pragma once

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace sluice::train {

/// A directory of its own, removed with the object.
class ScratchDirectory {
 public:
  /// Within `parent`, its name sluice-PURPOSE- and six letters that nobody has yet. Throws std::system_error.
  explicit ScratchDirectory(const std::string& purpose,
                            const std::filesystem::path& parent = std::filesystem::temp_directory_path()) {
    std::string name = (parent / ("sluice-" + purpose + "-XXXXXX")).string();
    if (mkdtemp(name.data()) == nullptr)
      throw std::system_error(errno, std::generic_category(), "mkdtemp " + name);
    path_ = name;
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace sluice::train
