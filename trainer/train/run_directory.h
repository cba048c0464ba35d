#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trainer/train/checkpoint.h"
#include "trainer/train/corpora.h"
#include "trainer/train/files.h"
#include "trainer/train/options.h"

namespace sluice::train {

/// What a run directory records of the program and its settings.
struct RunTexts {
  std::string resolved_ini;
  std::string build;  ///< version and libraries, as `sluice --version` prints them
};

/// How a resumed run's settings differ from those of its checkpoint; each line is meant for the user.
struct ResumeVerdict {
  std::vector<std::string> warnings;
  std::vector<std::string> refusals;
};
/// Judges from the settings that the checkpoint was written with, and the steps it has done.
using CompareForResume =
    std::function<ResumeVerdict(const std::string& resolved_ini, std::int64_t steps_done)>;

struct OpenedRun {
  std::optional<CheckpointInfo> checkpoint;  ///< where to go on from; none: from the start
  std::int64_t last_valid_step = -1;         ///< newest evaluation that the metrics hold
  std::vector<std::string> warnings;
  std::unique_ptr<DirectoryLock> lock;  ///< to be kept while the run is written to
};

/// What names of files begin with that `sluice submit` and the job itself write into a run directory.
inline constexpr const char* kSubmitPrefix = "submit.";

/// Whether open_run() takes this directory: absent, empty but for submitted files, or a run.
[[nodiscard]] bool may_hold_run(const std::filesystem::path& directory);

/// Makes options.run.dir ready to be written to. An absent or empty one is created, and begins at
/// run.branch_from where that names a checkpoint. One that holds a run is resumed: metrics and ledger are cut
/// back to its newest good checkpoint; with run.new it is moved to NAME.1
/// (2, ...) instead, its ledger likewise. Then resolved.ini is written. Rank 0 alone calls it.
/// Throws InputError for a directory that is neither empty nor a run, a run whose checkpoints are all bad,
/// a directory that another job writes to, other data, a ledger that belongs to something else, and
/// refusals of `compare`.
[[nodiscard]] OpenedRun open_run(const RunOptions& options, const RunTexts& texts,
                                 const std::vector<OpenCorpus>& corpora, const CompareForResume& compare);

}  // namespace sluice::train
