#pragma once

#include <cstdint>
#include <filesystem>

#include "dataio/corpus.h"

namespace sluice::train {

/// A split of random tokens in a file of this process's own, for benchmarks without a corpus: the same reader
/// and loader run as in training. Removed with the object. Every process makes the same tokens.
class SyntheticSplit {
 public:
  SyntheticSplit(std::int64_t tokens, std::int64_t vocabulary_size);
  ~SyntheticSplit();
  SyntheticSplit(const SyntheticSplit&) = delete;
  SyntheticSplit& operator=(const SyntheticSplit&) = delete;

  [[nodiscard]] const dataio::SplitLayout& layout() const { return layout_; }

 private:
  std::filesystem::path directory_;
  dataio::SplitLayout layout_;
};

}  // namespace sluice::train
