#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

/// A run directory of a test, removed with it.
class TemporaryRun {
 public:
  TemporaryRun() {
    std::string name = (std::filesystem::temp_directory_path() / "sluice-study-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp " + name);
    path_ = name;
  }
  ~TemporaryRun() { std::filesystem::remove_all(path_); }
  TemporaryRun(const TemporaryRun&) = delete;
  TemporaryRun& operator=(const TemporaryRun&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  void write(const std::string& file, const std::string& text) const {
    std::ofstream out(path_ / file, std::ios::binary);
    out << text;
    ASSERT_TRUE(out.good()) << file;
  }

 private:
  std::filesystem::path path_;
};
