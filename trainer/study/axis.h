#pragma once

#include <string>
#include <vector>

#include "trainer/study/gnuplot.h"

namespace sluice::study {

/// A labelled place on an axis.
struct Tic {
  double at = 0.0;
  std::string label;
};

struct AxisRange {
  double low = 0.0;
  double high = 0.0;
};

/// A number as an axis shows it: 0.05, 250, 20k, 1.5M, 3e-4.
[[nodiscard]] std::string tic_label(double value);

/// Round places within a logarithmic axis, at most `most` (>= 2) of them: powers of two; or powers of ten
/// with the most of 2, 3, 4, 5, 6 and 8 times them that there is room for, close neighbours included; or,
/// where these are fewer than three, evenly spaced ones; or powers of ten alone.
[[nodiscard]] std::vector<Tic> log_tics(Axis axis, AxisRange range, int most);

/// The least of 1, 2, 5 times a power of ten that cuts `length` into at most `pieces`; 1 where it is not
/// positive.
[[nodiscard]] double tic_step(double length, int pieces);

/// Enclose the positive values of a chart in x, or in y with its bands and bars, with a little room on both
/// sides (as factors); 1 to 10 where there is none. The chart's own ranges come before.
[[nodiscard]] AxisRange log_x_range(const Chart& chart);
[[nodiscard]] AxisRange log_y_range(const Chart& chart);

}  // namespace sluice::study
