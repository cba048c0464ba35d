#pragma once

#include <array>
#include <cstddef>
#include <vector>

namespace sluice::study {

/// Coefficients c[0] ... c[degree] of the polynomial through (x, y) by least squares; empty where fewer than
/// degree + 1 different x make it undetermined. Best where x is near zero in the mean.
[[nodiscard]] std::vector<double> polynomial(const std::vector<double>& x, const std::vector<double>& y,
                                             std::size_t degree);

/// Of the parabola in log(value) through three points, the middle one with the least loss: the value at its
/// lowest point; the middle one where it has none (equal losses, or one that is not finite). `values` rise.
[[nodiscard]] double lowest_of_three(const std::array<double, 3>& values,
                                     const std::array<double, 3>& losses);

}  // namespace sluice::study
