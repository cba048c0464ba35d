#pragma once

#include <vector>

#include "trainer/study/page.h"
#include "trainer/study/speed_numbers.h"

namespace sluice::study {

/// The numbers that a speed study's page opens with: the fastest cell, the best speed-up of each mode, MFU.
[[nodiscard]] KeyNumbers speed_key_numbers(const std::vector<SpeedCurve>& curves);

/// For strong and weak scaling each: tokens/s (with the ideal and the prediction), efficiency, the table with
/// speed-up and serial fraction; then what a step's time went to, and use of the device, memory and energy.
[[nodiscard]] std::vector<Part> speed_parts(const std::vector<SpeedCurve>& curves);

/// Cells that were not measured, and why; nothing where all were.
[[nodiscard]] std::vector<Part> missing_cells(const std::vector<SpeedCell>& cells);

}  // namespace sluice::study
