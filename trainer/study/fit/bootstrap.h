#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "trainer/study/fit/fit.h"

namespace sluice::study {

/// The q-quantile (0 < q < 1) of Student's t for a whole number of degrees of freedom >= 1 (Abramowitz and
/// Stegun 26.7.3 and 26.7.4, inverted by bisection); above 1000 of the normal distribution.
[[nodiscard]] double student_quantile(double q, std::int64_t degrees);

/// By how much draws of a bootstrap over few units are spread about the estimate: sqrt(G/(G-1) (n-1)/(n-p))
/// times the quantile of Student's t for min(G-1, n-p) over the normal one (G units, n rows, p parameters).
/// Infinite where G < 2 or n <= p.
[[nodiscard]] double spread_of(std::int64_t units, std::int64_t rows, std::int64_t parameters, double level);

/// Draws units of rows with replacement. A unit is drawn whole: all its rows get the same weight.
class UnitDraws {
 public:
  /// `units`: of each row.
  UnitDraws(const std::vector<std::string>& units, std::uint64_t seed);

  [[nodiscard]] std::int64_t count() const { return static_cast<std::int64_t>(count_); }
  /// How often each row was drawn; the sum over units is count().
  [[nodiscard]] std::vector<double> next();

 private:
  std::vector<std::size_t> unit_of_row_;
  std::size_t count_ = 0;
  std::mt19937_64 random_;
};

enum class Spread { kPlain, kLogarithm };  ///< in which draws are spread about the estimate

/// The central interval of draws after spreading. NaNs are left out; where they are more than a tenth there
/// is none.
[[nodiscard]] Interval interval_of(double estimate, std::vector<double> draws, double spread, double level,
                                   Spread in);

}  // namespace sluice::study
