#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <utility>

namespace sluice::dataio {

/// Data that cannot be used: names the file and the reason. The program turns it into exit code 2 when it is
/// found before training, and into an abort of all ranks when it is found during training.
class DataError : public std::runtime_error {
 public:
  DataError(std::filesystem::path file, const std::string& reason)
      : std::runtime_error(file.string() + ": " + reason), file_(std::move(file)), reason_(reason) {}

  [[nodiscard]] const std::filesystem::path& file() const { return file_; }
  [[nodiscard]] const std::string& reason() const { return reason_; }

 private:
  std::filesystem::path file_;
  std::string reason_;
};

}  // namespace sluice::dataio
