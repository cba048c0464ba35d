#pragma once

#include "trainer/cli/arguments.h"
#include "trainer/cli/study_place.h"

namespace sluice::cli {

/// `sluice study FILE submit`: one array job with an element for each run that may start, and a job after it
/// that submits what its results make possible; the last one of these collects. --dry-run prints scripts and
/// calls of sbatch. Returns the exit code.
[[nodiscard]] int submit_study(const StudyPlace& place, const Arguments& arguments);

}  // namespace sluice::cli
