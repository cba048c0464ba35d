#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/study/gnuplot.h"
#include "trainer/study/metrics_file.h"

namespace sluice::study {

/// A readable unit for an axis: values are divided by `divisor`, `suffix` goes into the label ("",
/// "thousands", ...).
struct Scale {
  double divisor = 1.0;
  std::string suffix;
};
[[nodiscard]] Scale scale_for(double largest);

/// Mean over the neighbouring values up to `steps` before and after, so that it does not lag behind a falling
/// curve; near the start over fewer, as many after as before. NaNs are passed over.
[[nodiscard]] std::vector<double> smoothed(const std::vector<double>& values, std::int64_t steps);

/// Means of runs of consecutive values, at most `points` of them; a run without a finite value gives NaN.
[[nodiscard]] std::vector<double> thinned(const std::vector<double>& values, std::int64_t points);

/// Where the time of all logged steps went.
struct Phase {
  std::string name;
  double seconds = 0.0;
};
/// Data wait, forward, backward, exposed communication, optimizer, other; phases that no line has are left
/// out, and the rest is called "compute and other" where forward and backward are not told apart.
[[nodiscard]] std::vector<Phase> phases(const std::vector<TrainRecord>& records);

/// `steps` of smoothed() that the charts of a run of this many logged steps use.
[[nodiscard]] std::int64_t smoothing_steps(std::size_t logged_steps);

/// The unit of tokens that loss_chart() uses.
[[nodiscard]] Scale loss_scale(const Metrics& metrics);
/// Of a mixture also the corpora of the last evaluation, each by itself.
[[nodiscard]] Chart loss_chart(const Metrics& metrics);
[[nodiscard]] Chart speed_chart(const Metrics& metrics);
[[nodiscard]] Chart time_chart(const Metrics& metrics);
[[nodiscard]] Chart rate_chart(const Metrics& metrics);
[[nodiscard]] Chart norm_chart(const Metrics& metrics);

}  // namespace sluice::study
