#include "trainer/study/fit/rates.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "trainer/study/fit/polynomial.h"

namespace sluice::study {
namespace {

/// Of one size, of each learning rate by seed: its losses.
using SeedLosses = std::map<std::string, std::vector<double>>;
using Rates = std::map<double, SeedLosses>;

/// Those that every rate has: the best rate of a tuning often has a run of every seed, the others of one, and
/// means over different seeds do not compare.
std::set<std::string> common_seeds(const Rates& rates) {
  std::set<std::string> common;
  for (const auto& [seed, loss] : rates.begin()->second) common.insert(seed);
  for (const auto& [lr, losses] : rates)
    std::erase_if(common, [&losses](const std::string& seed) { return !losses.contains(seed); });
  return common;
}

double mean_loss(const SeedLosses& losses, const std::set<std::string>& seeds) {
  double sum = 0;
  double count = 0;
  for (const auto& [seed, of_seed] : losses) {
    if (!seeds.empty() && !seeds.contains(seed)) continue;
    for (const double loss : of_seed) sum += loss;
    count += static_cast<double>(of_seed.size());
  }
  return sum / count;
}

double optimum_of(const RateSweep& sweep) {
  const std::size_t best = sweep.best;
  if (!sweep.interior) return sweep.lr[best];
  return lowest_of_three({sweep.lr[best - 1], sweep.lr[best], sweep.lr[best + 1]},
                         {sweep.loss[best - 1], sweep.loss[best], sweep.loss[best + 1]});
}

}  // namespace

std::vector<RateSweep> rate_sweeps(const Points& points) {
  using Cell = std::tuple<std::string, double, double>;
  std::map<Cell, Rates> cells;
  for (const auto* list : {&points.points, &points.left_out})
    for (const auto& point : *list) {
      if (!std::isfinite(point.lr) || !std::isfinite(point.loss) || !std::isfinite(point.params)) continue;
      const double tokens = std::isfinite(point.tokens) ? point.tokens : 0.0;
      cells[{point.family, point.params, tokens}][point.lr][point.seed].push_back(point.loss);
    }
  std::vector<RateSweep> sweeps;
  for (const auto& [cell, rates] : cells) {
    if (rates.size() < 3) continue;
    const double tokens = std::get<2>(cell);
    RateSweep sweep{.family = std::get<0>(cell),
                    .params = std::get<1>(cell),
                    .tokens = tokens > 0.0 ? tokens : Point::kUnknown};
    const std::set<std::string> seeds = common_seeds(rates);
    for (const auto& [lr, losses] : rates) {
      sweep.lr.push_back(lr);
      sweep.loss.push_back(mean_loss(losses, seeds));
    }
    sweep.best =
        static_cast<std::size_t>(std::min_element(sweep.loss.begin(), sweep.loss.end()) - sweep.loss.begin());
    sweep.interior = sweep.best > 0 && sweep.best + 1 < sweep.lr.size();
    sweep.optimum = optimum_of(sweep);
    sweeps.push_back(std::move(sweep));
  }
  return sweeps;
}

std::vector<Fit> fit_rates(const std::vector<RateSweep>& sweeps, const FitOptions& options) {
  // Sweeps come by family, size and rising tokens: the last one of a size is the longest.
  std::map<std::string, std::map<double, RateOptimum>> families;
  for (const auto& sweep : sweeps) {
    auto& optima = families[sweep.family];
    if (sweep.interior) optima[sweep.params] = {sweep.family, sweep.params, sweep.optimum};
  }
  std::vector<Fit> fits;
  for (const auto& [family, optima] : families) {
    std::vector<RateOptimum> list;
    for (const auto& [params, optimum] : optima) list.push_back(optimum);
    Fit fit = list.size() < 2 ? Fit{.form = Form::kRate, .floor = Floor::kZero} : fit_rate(list, options);
    if (list.size() < 2)
      fit.refusal = fmt::format(
          "no interior minimum: {} size{} a best learning rate with a worse one on either side, "
          "and a line needs two",
          list.size(), list.size() == 1 ? " has" : "s have");
    fit.family = family;
    fits.push_back(std::move(fit));
  }
  return fits;
}

}  // namespace sluice::study
