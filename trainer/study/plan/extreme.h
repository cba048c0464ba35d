#pragma once

#include <vector>

namespace sluice::study::plan {

/// Expected maximum of `draws` independent draws, with replacement, from `samples`: with the samples in order
/// x_1 <= ... <= x_m, the sum of x_i ((i / m)^draws - ((i - 1) / m)^draws). Never above the largest sample:
/// for many more draws than samples it is a lower bound. One draw: the mean. No samples: 0.
[[nodiscard]] double expected_maximum(std::vector<double> samples, double draws);

}  // namespace sluice::study::plan
