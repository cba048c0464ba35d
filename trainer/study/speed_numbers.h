#pragma once

#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "trainer/study/csv.h"

// The arithmetic of a speed study: from speed.csv's cells to speed-up, efficiency and serial fraction.

namespace sluice::study {

/// A row of speed.csv; numbers that it lacks are NaN. Seconds, bytes, watts, joules.
struct SpeedCell {
  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

  std::string family = {};
  std::string model = {};
  std::string mode = {};  ///< strong | weak
  std::string device_model = {};
  std::string sp_mode = {};
  std::string precision = {};
  std::string run = {};
  std::string reason = {};  ///< why it was not measured
  double ranks = kUnknown;
  double dp = kUnknown;
  double sp = kUnknown;
  double zero = kUnknown;
  double seq_len = kUnknown;
  double global_batch = kUnknown;
  double micro_batch = kUnknown;
  double params = kUnknown;
  double tokens_per_s = kUnknown;
  double tokens_per_s_low = kUnknown;
  double tokens_per_s_high = kUnknown;
  double step_s = kUnknown;
  double forward_s = kUnknown;
  double backward_s = kUnknown;
  double comm_exposed_s = kUnknown;
  double data_wait_s = kUnknown;
  double optimizer_s = kUnknown;
  double mfu = kUnknown;
  double hfu = kUnknown;
  double power_w = kUnknown;
  double energy_per_token_j = kUnknown;
  double peak_memory_bytes = kUnknown;
  double rank_step_s_min = kUnknown;
  double rank_step_s_max = kUnknown;
  double predicted_step_s = kUnknown;
  double predicted_memory_bytes = kUnknown;

  [[nodiscard]] bool measured() const { return tokens_per_s > 0.0; }
  [[nodiscard]] bool strong() const { return mode == "strong"; }
  /// Forward, backward and update; where they are not told apart, what communication and data leave.
  [[nodiscard]] double compute_s() const;
  /// What the named causes leave of the step.
  [[nodiscard]] double other_s() const;
  /// (slowest - fastest) / slowest of the ranks' own step times.
  [[nodiscard]] double rank_spread() const;
  [[nodiscard]] double step_error() const { return predicted_step_s / step_s - 1.0; }
  [[nodiscard]] double memory_error() const { return predicted_memory_bytes / peak_memory_bytes - 1.0; }
};

/// Throws train::InputError for a field that should be a number and is none, or a mode that is neither.
[[nodiscard]] std::vector<SpeedCell> speed_cells(const Table& table);

/// A measured cell against its base, p times the base's ranks.
struct SpeedPoint {
  SpeedCell cell;
  double speed_up = SpeedCell::kUnknown;    ///< S: tokens/s over the base's
  double efficiency = SpeedCell::kUnknown;  ///< S / p
  /// Strong: the share that does not scale, (1/S - 1/p) / (1 - 1/p) (Karp and Flatt 1990). Weak: the same of
  /// the scaled problem, (p - S) / (p - 1) (Gustafson 1988). NaN for the base.
  double serial = SpeedCell::kUnknown;
  bool borrowed = false;  ///< the base of another shape of ranks (one rank has none): drawn, not listed again
};

/// Cells that differ in the number of ranks alone: one problem (strong) or one a rank (weak), one shape of
/// ranks (dp, sp, or dp x a fixed sp). By rising ranks.
struct SpeedCurve {
  std::string label;  ///< what tells it from the study's other curves; "" of one alone
  std::string mode;
  std::vector<SpeedPoint> points;
};

/// The curves of the measured cells, in the table's order. The base is the cell of the fewest ranks with the
/// same problem and model; ranks that share sequences are measured against one that does not.
[[nodiscard]] std::vector<SpeedCurve> speed_curves(const std::vector<SpeedCell>& cells);

[[nodiscard]] double karp_flatt(double speed_up, double ranks);
[[nodiscard]] double gustafson(double speed_up, double ranks);

}  // namespace sluice::study
