#pragma once

#include <string>
#include <vector>

// Numbers as pages show them. One that is not finite is shown as an en dash.

namespace sluice::study {

/// Whole, in groups of three: 12 345 (narrow no-break spaces).
[[nodiscard]] std::string grouped(double value);
/// Large counts in three digits: 8.19 M.
[[nodiscard]] std::string counted(double value);
/// 250 ms, 3.2 s, 5 min 03 s, 2 h 07 min.
[[nodiscard]] std::string duration(double seconds);
/// With so many digits behind the point.
[[nodiscard]] std::string fixed(double value, int digits);
/// With so many digits in all: 0.001234, 1.2e-06.
[[nodiscard]] std::string significant(double value, int digits);
/// A share of one as per cent: 97.3 %.
[[nodiscard]] std::string percent(double share, int digits = 1);
/// A number as a CSV holds it: it reads back as the same double; "" where it is not finite.
[[nodiscard]] std::string exact(double value);

/// "1 run", "3 runs".
[[nodiscard]] std::string plural(std::size_t count, const std::string& noun);

/// A part of a sum that may be missing: zero where it is not finite.
[[nodiscard]] double or_zero(double value);

/// The upper median of the finite values; NaN where there is none.
[[nodiscard]] double median_of(std::vector<double> values);

}  // namespace sluice::study
