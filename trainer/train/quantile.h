#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace sluice::train {

/// The value that a share q of the others does not exceed, of two the lower: 0.5 is the median. `values` must
/// not be empty.
[[nodiscard]] inline double quantile(std::vector<double> values, double q) {
  const auto at = static_cast<std::ptrdiff_t>(std::floor(q * static_cast<double>(values.size() - 1)));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<std::size_t>(at)];
}

}  // namespace sluice::train
