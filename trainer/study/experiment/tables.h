#pragma once

#include <string>
#include <vector>

#include "trainer/study/csv.h"
#include "trainer/study/experiment/study_json.h"

// What a study collects (docs/studies.md has every column).

namespace sluice::study {

/// points.csv: a row for each finished loss run.
[[nodiscard]] Table points_table(const std::vector<StudyRun>& runs);

/// lr.csv: a row for each finished tuning run.
[[nodiscard]] Table tuning_table(const std::vector<TuningPoint>& points, const std::vector<StudyRun>& runs);

/// speed.csv: a row for each cell, measured or not; `reason` says why not. Reads every bench.json; throws
/// train::InputError for one that is none.
[[nodiscard]] Table speed_table(const std::vector<StudyRun>& runs);

}  // namespace sluice::study
