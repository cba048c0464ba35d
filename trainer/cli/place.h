#pragma once

#include <filesystem>
#include <vector>

namespace sluice::cli {

/// What a directory of ours holds.
enum class Place { kCorpus, kCheckpoint, kRun, kTokenizer };

/// Tells by the files in it. Throws train::InputError for a path that is none of these.
[[nodiscard]] Place place_of(const std::filesystem::path& path);

/// The checkpoint directories of a run, oldest first.
[[nodiscard]] std::vector<std::filesystem::path> checkpoints_of(const std::filesystem::path& run);

}  // namespace sluice::cli
