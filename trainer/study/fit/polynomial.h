#pragma once

#include <cstddef>
#include <vector>

namespace sluice::study {

/// Coefficients c[0] ... c[degree] of the polynomial through (x, y) by least squares; empty where fewer than
/// degree + 1 different x make it undetermined. Best where x is near zero in the mean.
[[nodiscard]] std::vector<double> polynomial(const std::vector<double>& x, const std::vector<double>& y,
                                             std::size_t degree);

}  // namespace sluice::study
