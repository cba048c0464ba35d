#include "trainer/study/fit/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "trainer/study/fit/bootstrap.h"
#include "trainer/study/fit/power_law.h"
#include "trainer/study/fit/selection.h"
#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

constexpr std::int64_t kDrawIterations = 300;
constexpr int kRedraws = 50;
constexpr std::int64_t kLeastUnits = 4;
constexpr double kReach = 1000.0;  // how far beyond the data a crossover is sought, as a factor
constexpr int kSteps = 400;

using Families = std::array<Candidates, 2>;

struct Laws {
  std::array<Law, 2> separate;
  std::array<Law, 2> shared;
};

struct Models {
  PowerModel separate;
  PowerModel shared;
};

std::vector<Observation> joined(const Families& families, Form form) {
  auto rows = observations(form, families[0].rows, 0);
  const auto more = observations(form, families[1].rows, 1);
  rows.insert(rows.end(), more.begin(), more.end());
  return rows;
}

/// Parameters of one family by itself.
std::size_t own_parameters(const PowerModel& model) { return model.size() / model.families; }

Laws laws_of(const Models& models, const std::vector<double>& separate, const std::vector<double>& shared) {
  return {{models.separate.law(separate, 0), models.separate.law(separate, 1)},
          {models.shared.law(shared, 0), models.shared.law(shared, 1)}};
}

/// Rows of both families, each one's units drawn apart; empty where draws do not carry the form.
std::vector<Observation> drawn_rows(const Families& families, std::array<UnitDraws, 2>& draws,
                                    const FitOptions& options, std::size_t parameters) {
  std::vector<Observation> all;
  for (std::size_t f = 0; f < 2; ++f) {
    std::vector<Observation> rows;
    for (int attempt = 0; attempt < kRedraws && rows.empty(); ++attempt) {
      rows = observations(options.form, families[f].rows, draws[f].next(), f);
      if (!too_few(cells_of(rows, f), options.form, parameters, 0).empty()) rows.clear();
    }
    if (rows.empty()) return {};
    all.insert(all.end(), rows.begin(), rows.end());
  }
  return all;
}

std::vector<Laws> draw_laws(const Families& families, const Models& models, const Solution& separate,
                            const Solution& shared, const FitOptions& options) {
  std::array<UnitDraws, 2> draws = {UnitDraws(families[0].units(), options.seed),
                                    UnitDraws(families[1].units(), options.seed + 1)};
  std::vector<Laws> out;
  if (std::min(draws[0].count(), draws[1].count()) < kLeastUnits) return out;
  Solver separate_solver(models.separate, options.huber);
  Solver shared_solver(models.shared, options.huber);
  for (std::int64_t r = 0; r < options.resamples; ++r) {
    const auto rows = drawn_rows(families, draws, options, own_parameters(models.separate));
    if (rows.empty()) return {};
    out.push_back(laws_of(models,
                          separate_solver.minimise(rows, separate.parameters, kDrawIterations).parameters,
                          shared_solver.minimise(rows, shared.parameters, kDrawIterations).parameters));
  }
  return out;
}

/// The wider of the families' spreads.
double spread_of_both(const Families& families, const std::vector<Observation>& rows, std::size_t parameters,
                      double level) {
  double spread = 0.0;
  for (std::size_t f = 0; f < 2; ++f) {
    const auto count =
        std::count_if(rows.begin(), rows.end(), [&](const Observation& row) { return row.family == f; });
    const UnitDraws units(families[f].units(), 0);
    spread = std::max(spread, spread_of(units.count(), count, static_cast<std::int64_t>(parameters), level));
  }
  return spread;
}

/// The range of one family's x and losses.
struct Ranges {
  Interval x{INFINITY, -INFINITY};
  Interval loss{INFINITY, -INFINITY};
};

Ranges ranges_of(const std::vector<Observation>& rows, std::size_t family) {
  Ranges ranges;
  const auto include = [](Interval& interval, double value) {
    interval.low = std::min(interval.low, value);
    interval.high = std::max(interval.high, value);
  };
  for (const auto& row : rows) {
    if (row.family != family) continue;
    include(ranges.x, std::exp(row.log_x[0]));
    include(ranges.loss, std::exp(row.log_y));
  }
  return ranges;
}

/// The meeting of two laws nearest to the middle of [low, high] in log x; NaN where there is none.
double meeting(const std::array<Law, 2>& laws, double low, double high) {
  const auto difference = [&](double log_x) {
    return laws[0].at(std::exp(log_x)) - laws[1].at(std::exp(log_x));
  };
  const double from = std::log(low / kReach);
  const double step = (std::log(high * kReach) - from) / kSteps;
  const double middle = 0.5 * (std::log(low) + std::log(high));
  double best = Point::kUnknown;
  for (int i = 0; i < kSteps; ++i) {
    double left = from + i * step;
    double right = left + step;
    if ((difference(left) < 0.0) == (difference(right) < 0.0)) continue;
    const bool rises = difference(left) < 0.0;
    for (int k = 0; k < 60; ++k) {
      const double centre = 0.5 * (left + right);
      ((difference(centre) < 0.0) == rises ? left : right) = centre;
    }
    if (std::isnan(best) || std::abs(left - middle) < std::abs(std::log(best) - middle))
      best = std::exp(left);
  }
  return best;
}

template <typename Number>
Estimate estimate(const char* name, const Laws& laws, const std::vector<Laws>& draws, double spread,
                  double level, Spread in, Number number) {
  std::vector<double> values;
  for (const auto& draw : draws) values.push_back(number(draw));
  return {name, number(laws), interval_of(number(laws), std::move(values), spread, level, in)};
}

void fill_crossover(const Laws& laws, const std::vector<Laws>& draws, const std::array<Ranges, 2>& ranges,
                    double spread, double level, Comparison& out) {
  const double low = std::min(ranges[0].x.low, ranges[1].x.low);
  const double high = std::max(ranges[0].x.high, ranges[1].x.high);
  const auto meets = [&](const Laws& one) { return meeting(one.separate, low, high); };
  out.crossover = estimate("crossover", laws, draws, spread, level, Spread::kLogarithm, meets);
  const auto count =
      std::count_if(draws.begin(), draws.end(), [&](const Laws& one) { return std::isfinite(meets(one)); });
  out.meeting_share = draws.empty() ? 0.0 : static_cast<double>(count) / static_cast<double>(draws.size());
  out.crossover_measured = out.crossover.value >= std::max(ranges[0].x.low, ranges[1].x.low) &&
                           out.crossover.value <= std::min(ranges[0].x.high, ranges[1].x.high);
}

void fill_multipliers(const Laws& laws, const std::vector<Laws>& draws, const std::array<Ranges, 2>& ranges,
                      double spread, double level, Comparison& out) {
  const double high = std::min(ranges[0].loss.high, ranges[1].loss.high);
  const double low = std::max(ranges[0].loss.low, ranges[1].loss.low);
  if (low >= high) {
    out.warnings.push_back("the families reached no loss in common: no multiplier is given");
    return;
  }
  const auto ratio = [](const std::array<Law, 2>& pair, double loss) {
    return pair[1].reaches(loss) / pair[0].reaches(loss);
  };
  for (const double loss : {high, 0.5 * (low + high), low})
    out.multipliers.push_back({loss, estimate("multiplier", laws, draws, spread, level, Spread::kLogarithm,
                                              [&](const Laws& one) { return ratio(one.separate, loss); })});
  out.shared_multiplier = estimate("multiplier", laws, draws, spread, level, Spread::kLogarithm,
                                   [&](const Laws& one) { return ratio(one.shared, 0.5 * (low + high)); });
}

std::string refusal_of(const Families& families, const std::vector<Observation>& rows,
                       const PowerModel& model, const FitOptions& options, const Comparison& names) {
  for (std::size_t f = 0; f < 2; ++f) {
    const std::string& name = f == 0 ? names.first : names.second;
    if (!families[f].refusal.empty()) return name + ": " + families[f].refusal;
    const auto few = too_few(cells_of(rows, f), options.form, own_parameters(model), 1);
    if (!few.empty()) return name + ": " + few;
  }
  return "";
}

std::string at_bound(const Laws& laws, const Comparison& names) {
  if (names.floor == Floor::kZero) return "";
  for (std::size_t f = 0; f < 2; ++f) {
    const double exponent = laws.separate[f].exponent[0];
    if (exponent < 1.05 * kExponentLow || exponent > kExponentHigh / 1.05)
      return fmt::format("{}: the exponent ran to its bound {}", f == 0 ? names.first : names.second,
                         exponent < 1.0 ? kExponentLow : kExponentHigh);
  }
  return "";
}

}  // namespace

Comparison compare(const std::vector<Point>& first, const std::vector<Point>& second,
                   const FitOptions& options) {
  if (const auto why = why_no_fits(); !why.empty()) throw train::InputError(why);
  Comparison out{.form = options.form, .floor = options.floor, .count = options.count};
  out.first = first.front().family;
  out.second = second.front().family;
  const Families families = {candidates_of(first, options), candidates_of(second, options)};
  const auto rows = joined(families, options.form);
  Models models{.separate = {.floor = options.floor, .families = 2, .centre = centre_of(rows)}, .shared = {}};
  models.shared = models.separate;
  models.shared.sharing = Sharing::kExponents;
  out.refusal = refusal_of(families, rows, models.separate, options, out);
  if (!out.refusal.empty()) return out;
  const Solution separate = search(models.separate, rows, options.huber).best;
  const Solution shared = search(models.shared, rows, options.huber).best;
  const Laws laws = laws_of(models, separate.parameters, shared.parameters);
  out.refusal = at_bound(laws, out);
  if (!out.refusal.empty()) return out;
  out.first_law = laws.separate[0];
  out.second_law = laws.separate[1];
  out.separate_objective = separate.objective;
  out.shared_objective = shared.objective;
  const auto draws = draw_laws(families, models, separate, shared, options);
  if (draws.empty() && options.resamples > 0)
    out.warnings.push_back("no intervals: too few trunks or runs to draw from");
  const double spread = spread_of_both(families, rows, own_parameters(models.separate), options.level);
  const double level = options.level;
  out.exponent_difference =
      estimate("difference", laws, draws, spread, level, Spread::kPlain,
               [](const Laws& one) { return one.separate[1].exponent[0] - one.separate[0].exponent[0]; });
  const Spread in = options.floor == Floor::kFitted ? Spread::kLogarithm : Spread::kPlain;
  out.shared_exponent = estimate("shared", laws, draws, spread, level, in,
                                 [](const Laws& one) { return one.shared[0].exponent[0]; });
  const std::array<Ranges, 2> ranges = {ranges_of(rows, 0), ranges_of(rows, 1)};
  fill_multipliers(laws, draws, ranges, spread, level, out);
  fill_crossover(laws, draws, ranges, spread, level, out);
  return out;
}

}  // namespace sluice::study
