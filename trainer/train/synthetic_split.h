#pragma once

#include <cstdint>

#include "dataio/corpus.h"
#include "trainer/train/scratch_directory.h"

namespace sluice::train {

/// A split of random tokens in a file of this process's own, for benchmarks without a corpus: the same reader
/// and loader run as in training. Removed with the object. Every process makes the same tokens.
class SyntheticSplit {
 public:
  SyntheticSplit(std::int64_t tokens, std::int64_t vocabulary_size);

  [[nodiscard]] const dataio::SplitLayout& layout() const { return layout_; }

 private:
  ScratchDirectory directory_{"bench"};
  dataio::SplitLayout layout_;
};

}  // namespace sluice::train
