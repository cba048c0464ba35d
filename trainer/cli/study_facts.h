#pragma once

#include <string>
#include <vector>

#include "trainer/study/experiment/cells.h"
#include "trainer/train/options.h"

namespace sluice::cli {

/// What study::make_cells() asks of settings: parameters, FLOPs, the schedule, and the corpus's tokens. A
/// corpus is opened once. Throws train::InputError for settings that cannot be together, and for a loss study
/// whose corpus is not there, a mixture, or lacks one of the splits.
[[nodiscard]] study::FactsOf study_facts(const study::StudySpec& spec);

/// Every setting of a run: its values, over them what the study derives, run.dir, and of a ledger's path the
/// last part within the run's directory.
[[nodiscard]] train::RunOptions study_run_options(const study::Run& run, const std::string& directory);

/// Of a speed study's run the settings of `sluice bench step`, which needs neither corpus nor steps:
/// data.corpus may be kNoCorpus.
[[nodiscard]] train::RunOptions study_bench_options(const study::Run& run);

/// The one of the two that a run of its role is given.
[[nodiscard]] train::RunOptions study_options(const study::Run& run, const std::string& directory);

/// Every key and its value, as resolved.ini has it.
[[nodiscard]] study::Values all_settings(const train::RunOptions& options);

}  // namespace sluice::cli
