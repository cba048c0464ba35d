#pragma once

#include <filesystem>
#include <memory>

#include "dataio/corpus.h"
#include "parallel/communicator.h"
#include "trainer/train/checkpoint.h"

namespace sluice::cli {

/// The checkpoint that a user named: one itself, or a run's newest good one. Rank 0 chooses and prints
/// warnings on the standard error stream; all ranks get the same one. Collective. Throws train::InputError
/// for a run without any.
[[nodiscard]] train::CheckpointInfo open_checkpoint(const std::filesystem::path& path,
                                                    parallel::Communicator& world);

/// Opened by rank 0 and sent to the others. Collective.
[[nodiscard]] dataio::Corpus open_corpus(const std::filesystem::path& directory,
                                         parallel::Communicator& world);

/// Throws train::InputError that begins with `what` where a model cannot go on from a text.
void check_generates(const model::ModelOptions& model, const std::string& what);

}  // namespace sluice::cli
