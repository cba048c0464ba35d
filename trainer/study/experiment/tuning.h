#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace sluice::study {

/// Losses of one cell's tuning runs by the tuned key's value; infinite: the run failed (docs/studies.md).
using TriedValues = std::map<double, std::optional<double>>;

struct TuningRules {
  std::vector<double> values{};  ///< the first grid
  double factor = 2;
  std::size_t most = 8;
};

/// Where a cell's tuning stands.
struct TuningState {
  std::vector<double> values{};  ///< to be run, those already run included, rising
  bool done = false;             ///< best is what the next line says
  double best = 0;               ///< of the values tried
  double vertex = 0;             ///< of a parabola in log(value) through the best and its neighbours
  bool interior = false;         ///< the best is not at the grid's edge
};

/// A pure function of what is known: the grid, widened by `factor` beyond an edge that is best until the best
/// is interior or `most` values have been tried.
[[nodiscard]] TuningState tuning_state(const TuningRules& rules, const TriedValues& tried);

/// "0.002": four significant digits, so that a widened grid has the same text however it was reached.
[[nodiscard]] std::string value_text(double value);

/// The tuned value of a model size.
struct TunedSize {
  double params = 0;
  double value = 0;
};
/// value = exp(intercept) params^slope, least squares in log-log.
struct TuningLaw {
  double intercept = 0;
  double slope = 0;
  [[nodiscard]] double at(double params) const;
};
/// nullopt for fewer than two different sizes.
[[nodiscard]] std::optional<TuningLaw> fit_tuning_law(const std::vector<TunedSize>& sizes);

}  // namespace sluice::study
