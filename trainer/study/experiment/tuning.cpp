#include "trainer/study/experiment/tuning.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace sluice::study {
namespace {

/// As its text says it: values that are written alike are one.
double rounded(double value) { return std::stod(value_text(value)); }

/// Lowest point of the parabola through three (log value, loss); the middle value where it has none.
double parabola_vertex(const TriedValues& tried, double best) {
  const auto middle = tried.find(best);
  const auto low = std::prev(middle);
  const auto high = std::next(middle);
  const double xl = std::log(low->first) - std::log(best);
  const double xh = std::log(high->first) - std::log(best);
  const double yl = *low->second - *middle->second;
  const double yh = *high->second - *middle->second;
  const double bend = (yh / xh - yl / xl) / (xh - xl);
  if (!std::isfinite(bend) || bend <= 0) return best;
  const double rise = yl / xl - bend * xl;
  return best * std::exp(std::clamp(-rise / (2 * bend), xl, xh));
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
  double x = 0;
  double y = 0;
  for (const auto& size : sizes) {
    x += std::log(size.params) / static_cast<double>(sizes.size());
    y += std::log(size.value) / static_cast<double>(sizes.size());
  }
  double xx = 0;
  double xy = 0;
  for (const auto& size : sizes) {
    const double dx = std::log(size.params) - x;
    xx += dx * dx;
    xy += dx * (std::log(size.value) - y);
  }
  if (sizes.size() < 2 || xx < 1e-12) return std::nullopt;
  return TuningLaw{.intercept = y - xy / xx * x, .slope = xy / xx};
}

}  // namespace sluice::study
