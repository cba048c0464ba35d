#pragma once

#include <filesystem>

#include "dataio/files.h"

namespace sluice::dataio {

/// A directory that appears under its name only when it is whole: it is filled under ".NAME.preparing" beside
/// it and renamed at the end. A lock tells a live writer from what a killed one left behind, which is
/// cleared. Without publish() all of it is removed.
class StagingDirectory {
 public:
  /// Throws DataError where `final_path` exists or somebody else is preparing it.
  explicit StagingDirectory(std::filesystem::path final_path);
  ~StagingDirectory();
  StagingDirectory(const StagingDirectory&) = delete;
  StagingDirectory& operator=(const StagingDirectory&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return staging_; }
  /// fsyncs the directory and gives it its name; never over something that exists. The files in it must be on
  /// disk.
  void publish();

 private:
  std::filesystem::path final_;
  std::filesystem::path staging_;
  File lock_;
  bool published_ = false;
};

}  // namespace sluice::dataio
