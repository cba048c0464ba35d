#pragma once

#include <vector>

#include "trainer/study/page.h"
#include "trainer/study/speed_numbers.h"

namespace sluice::study {

/// What a step's time went to: for each curve bars of compute, exposed communication, data wait and other
/// over the number of ranks, and the table with the spread of the ranks' step times.
[[nodiscard]] std::vector<Part> cause_parts(const std::vector<SpeedCurve>& curves);

/// Predicted step time and memory beside the measured ones, with the error; nothing where none was predicted.
[[nodiscard]] std::vector<Part> prediction_parts(const std::vector<SpeedCurve>& curves);

/// MFU, HFU, power, energy per token, peak memory: what the cells know of these.
[[nodiscard]] std::vector<Part> device_parts(const std::vector<SpeedCurve>& curves);

}  // namespace sluice::study
