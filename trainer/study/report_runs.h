#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trainer/study/page.h"
#include "trainer/study/report_provenance.h"
#include "trainer/study/run_curves.h"
#include "trainer/study/run_files.h"

namespace sluice::study {

/// A run with the name that a page of several gives it.
struct NamedRun {
  std::string name;
  RunFiles files;
  Origin origin;
};

/// Reads runs; a study stands for its runs that have metrics. Directories of one name are told apart by the
/// folder that they are in. Throws train::InputError for each that is neither, all at once.
[[nodiscard]] std::vector<NamedRun> read_runs(const std::vector<std::filesystem::path>& directories);

/// The curves of the runs in one colour each.
[[nodiscard]] std::vector<RunCurve> curves_of(const std::vector<NamedRun>& runs);

/// Final numbers, a row for each run.
[[nodiscard]] Grid final_table(const std::vector<NamedRun>& runs);

/// Several runs laid over one another: curves, final numbers, differing settings, provenance.
[[nodiscard]] Page runs_page(const std::vector<std::filesystem::path>& directories,
                             const std::vector<Overlay>& overlays);

}  // namespace sluice::study
