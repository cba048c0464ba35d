#pragma once

#include <string>
#include <vector>

#include "dataio/corpus.h"
#include "parallel/communicator.h"
#include "trainer/train/corpora.h"
#include "trainer/train/sink.h"

namespace sluice::train {

/// A corpus as a rank is to read it, and what rank 0 may tell of it.
struct StagedCorpus {
  dataio::Corpus corpus;
  /// Lines: what was copied and found; a warning for each node that reads the original. None where nothing
  /// was asked for.
  std::vector<std::string> told{};
};

/// Copies `corpus` to `directory` (data.stage; empty: nothing is done) on every node, by the rank that is
/// first there. A node where that fails, for want of room or whatever reason, reads the original. Collective:
/// the ranks exchange how far they are every few seconds, so that no watchdog takes a long copy for a hang.
[[nodiscard]] StagedCorpus stage_corpus(dataio::Corpus corpus, const std::string& directory,
                                        parallel::Communicator& world);

/// The same of every corpus of a run. Rank 0 tells `sink`.
[[nodiscard]] std::vector<OpenCorpus> stage_corpora(std::vector<OpenCorpus> corpora,
                                                    const std::string& directory,
                                                    parallel::Communicator& world, TrainSink* sink);

}  // namespace sluice::train
