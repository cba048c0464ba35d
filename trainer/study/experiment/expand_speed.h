#pragma once

#include <vector>

#include "trainer/study/experiment/cells.h"
#include "trainer/study/experiment/run.h"

namespace sluice::study {

/// Every cell x mode x ranks. Strong: train.global_batch is shared by the ranks; weak: each rank has
/// Speed::weak_batch sequences. Left away: ranks that parallel.sp does not divide.
[[nodiscard]] std::vector<Run> expand_speed(const StudySpec& spec, const std::vector<Cell>& cells);

}  // namespace sluice::study
