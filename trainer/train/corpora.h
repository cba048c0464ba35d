#pragma once

#include <optional>
#include <string>
#include <vector>

#include "dataio/corpus.h"
#include "dataio/mixed_order.h"
#include "parallel/communicator.h"
#include "trainer/train/checkpoint.h"
#include "trainer/train/corpus_list.h"
#include "trainer/train/options.h"

// What a run is trained on: one corpus, or a mixture of several (docs/data.md).

namespace sluice::train {

/// A corpus of a run, read and checked.
struct OpenCorpus {
  CorpusPart part;
  dataio::Corpus files;
};

/// The corpora of options.data.corpus, in its order. Throws InputError with all that is wrong: a corpus that
/// cannot be opened, has no whole window, no valid split to evaluate, another tokenizer than the first one,
/// or none that masks under train.objective = mlm. One corpus that cannot be opened: its DataError. Rank 0
/// alone calls it.
[[nodiscard]] std::vector<OpenCorpus> open_corpora(const RunOptions& options);
/// Rank 0's to all ranks. Collective.
[[nodiscard]] std::vector<OpenCorpus> share_corpora(const std::vector<OpenCorpus>& corpora,
                                                    const RunOptions& options, parallel::Communicator& world);

/// Weights as parts of one.
[[nodiscard]] std::vector<double> shares_of(const std::vector<OpenCorpus>& corpora);
/// The order of the samples of their train splits.
[[nodiscard]] dataio::MixedOrder mixed_order(const RunOptions& options,
                                             const std::vector<OpenCorpus>& corpora);

/// What a checkpoint keeps of them: fingerprint, and records where they are several.
void describe_corpora(const std::vector<OpenCorpus>& corpora, CheckpointInfo& info);
/// That a run which goes on from `checkpoint` would read other data, or mix it otherwise: a sentence for the
/// user. None: it is the same.
[[nodiscard]] std::optional<std::string> other_data(const CheckpointInfo& checkpoint,
                                                    const std::vector<OpenCorpus>& corpora);

}  // namespace sluice::train
