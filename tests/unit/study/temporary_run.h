#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/unit/dataio/scratch.h"

/// A run directory of a test, removed with it.
class TemporaryRun : public sluice::dataio::Scratch {
 public:
  void write(const std::string& file, const std::string& text) const {
    std::ofstream out(path() / file, std::ios::binary);
    out << text;
    ASSERT_TRUE(out.good()) << file;
  }
};
