#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "trainer/train/errors.h"

namespace sluice::cli {

/// The faults that `work` throws as InputError; empty if it throws nothing.
inline std::vector<std::string> faults_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const train::InputError& error) {
    return error.faults();
  }
  return {};
}

/// A directory's worth of settings that is valid.
inline std::vector<std::string> valid_words(const std::vector<std::string>& more = {}) {
  std::vector<std::string> words{"--run.dir=runs/a", "--data.corpus=corpora/b", "--train.steps=100"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

}  // namespace sluice::cli
