#include "trainer/study/experiment/tuning.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "trainer/study/fit/polynomial.h"

namespace sluice::study {
namespace {

/// As its text says it: values that are written alike are one.
double rounded(double value) { return std::stod(value_text(value)); }

double parabola_vertex(const TriedValues& tried, double best) {
  const auto middle = tried.find(best);
  const auto low = std::prev(middle);
  const auto high = std::next(middle);
  return lowest_of_three({low->first, best, high->first}, {*low->second, *middle->second, *high->second});
}

}  // namespace

std::string value_text(double value) { return fmt::format("{:.4g}", value); }

TuningState tuning_state(const TuningRules& rules, const TriedValues& tried) {
  TriedValues grid;
  for (const double value : rules.values) grid[rounded(value)];
  for (;;) {
    TuningState state;
    double lowest = std::numeric_limits<double>::infinity();
    for (auto& [value, loss] : grid) {
      const auto known = tried.find(value);
      loss = known == tried.end() ? std::nullopt : known->second;
      state.values.push_back(value);
      if (loss && *loss < lowest) {
        lowest = *loss;
        state.best = value;
      }
    }
    const bool complete = std::ranges::all_of(grid, [](const auto& one) { return one.second.has_value(); });
    if (!complete || state.best == 0) return state;
    const bool low_edge = state.best == grid.begin()->first;
    const bool high_edge = state.best == grid.rbegin()->first;
    const bool inside = !low_edge && !high_edge;
    // What failed below the best did not fail for being too high, and says nothing of the loss there.
    state.interior = inside && std::isfinite(*std::prev(grid.find(state.best))->second);
    if (inside || grid.size() >= rules.most) {
      state.done = true;
      state.vertex = state.interior ? parabola_vertex(grid, state.best) : state.best;
      return state;
    }
    if (low_edge) grid[rounded(state.best / rules.factor)];
    if (high_edge) grid[rounded(state.best * rules.factor)];
  }
}

double TuningLaw::at(double params) const { return std::exp(intercept + slope * std::log(params)); }

std::optional<TuningLaw> fit_tuning_law(const std::vector<TunedSize>& sizes) {
  std::vector<double> params;
  std::vector<double> values;
  for (const auto& size : sizes) {
    params.push_back(std::log(size.params));
    values.push_back(std::log(size.value));
  }
  const auto line = polynomial(params, values, 1);
  if (line.empty()) return std::nullopt;
  return TuningLaw{.intercept = line[0], .slope = line[1]};
}

}  // namespace sluice::study
