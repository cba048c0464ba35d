#include "trainer/study/fit/fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "trainer/study/fit/bootstrap.h"
#include "trainer/study/fit/power_law.h"
#include "trainer/study/fit/selection.h"
#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

constexpr std::int64_t kDrawIterations = 300;
constexpr int kRedraws = 50;
constexpr std::int64_t kLeastUnits = 4;  // of three there are ten different draws
constexpr double kShortRange = 4.0;

PowerModel model_of(const FitOptions& options, const std::vector<Observation>& rows) {
  const std::size_t terms = options.form == Form::kParamsTokens ? 2 : 1;
  return {.terms = terms, .floor = options.floor, .centre = centre_of(rows)};
}

/// Of learning rates, two sizes say a line; of losses one cell must be left to judge by.
std::size_t spare_of(Form form) { return form == Form::kRate ? 0 : 1; }

std::string at_bound(const Fit& fit) {
  if (fit.floor == Floor::kZero) return "";
  for (std::size_t t = 0; t < fit.law.terms; ++t) {
    const bool low = fit.law.exponent[t] < 1.05 * kExponentLow;
    if (low || fit.law.exponent[t] > kExponentHigh / 1.05)
      return fmt::format(
          "the exponent {} ran to its bound {}: the data do not tell E from the power of {}",
          t == 1 || fit.form == Form::kTokens ? "b" : "a", low ? kExponentLow : kExponentHigh,
          t == 1 || fit.form == Form::kTokens ? "D" : (fit.form == Form::kCompute ? "C" : "N"));
  }
  return "";
}

/// A number of a law, with the way in which its draws are spread.
struct Quantity {
  const char* name;
  double (*of)(const Law&);
  Spread in;
};

std::vector<Quantity> quantities(const Fit& fit) {
  std::vector<Quantity> out;
  if (fit.floor == Floor::kFitted)
    out.push_back({"E", [](const Law& law) { return law.floor; }, Spread::kLogarithm});
  const bool tokens = fit.form == Form::kTokens;
  const Spread in = fit.floor == Floor::kFitted ? Spread::kLogarithm : Spread::kPlain;
  out.push_back({tokens ? "B" : "A", [](const Law& law) { return law.scale[0]; }, Spread::kLogarithm});
  out.push_back({tokens ? "b" : "a", [](const Law& law) { return law.exponent[0]; }, in});
  if (fit.law.terms > 1) {
    out.push_back({"B", [](const Law& law) { return law.scale[1]; }, Spread::kLogarithm});
    out.push_back({"b", [](const Law& law) { return law.exponent[1]; }, in});
  }
  return out;
}

std::vector<Quantity> derived_quantities(const Fit& fit) {
  if (fit.law.terms < 2) return {};
  const auto params = [](const Law& law) { return law.exponent[1] / (law.exponent[0] + law.exponent[1]); };
  const auto tokens = [](const Law& law) { return law.exponent[0] / (law.exponent[0] + law.exponent[1]); };
  return {{"b/(a+b)", params, Spread::kLogarithm}, {"a/(a+b)", tokens, Spread::kLogarithm}};
}

std::vector<Estimate> estimates(const std::vector<Quantity>& quantities, const Fit& fit) {
  std::vector<Estimate> out;
  for (const auto& quantity : quantities) {
    std::vector<double> draws;
    for (const auto& law : fit.draws) draws.push_back(quantity.of(law));
    const double value = quantity.of(fit.law);
    out.push_back(
        {quantity.name, value, interval_of(value, std::move(draws), fit.spread, fit.level, quantity.in)});
  }
  return out;
}

/// Draws of the bootstrap into fit.draws.
void draw_laws(const Candidates& candidates, const PowerModel& model, const std::vector<double>& start,
               const FitOptions& options, Fit& fit) {
  UnitDraws draws(candidates.units(), options.seed);
  fit.units = draws.count();
  if (options.resamples == 0) return;
  if (draws.count() < kLeastUnits) {
    fit.warnings.push_back(
        fmt::format("no intervals: {} trunks or runs are too few to draw from, {} are needed", draws.count(),
                    kLeastUnits));
    return;
  }
  Solver solver(model, options.huber);
  for (std::int64_t r = 0; r < options.resamples; ++r) {
    std::vector<Observation> rows;
    for (int attempt = 0; attempt < kRedraws && (attempt == 0 || rows.empty()); ++attempt) {
      rows = observations(options.form, candidates.rows, draws.next());
      if (!too_few(cells_of(rows), options.form, model.size(), 0).empty()) rows.clear();
    }
    if (rows.empty()) {
      fit.draws.clear();
      fit.warnings.push_back(fmt::format(
          "no intervals: draws of {} trunks or runs mostly lack the cells that the form needs", fit.units));
      return;
    }
    fit.draws.push_back(model.law(solver.minimise(rows, start, kDrawIterations).parameters, 0));
  }
}

std::vector<FitRow> rows_of(const Candidates& candidates, Form form, const std::vector<Observation>& observed,
                            const Law& law) {
  std::vector<FitRow> rows;
  if (form != Form::kCompute) {
    for (const auto& one : candidates.rows)
      rows.push_back({one.x, one.second, one.loss, law.at(one.x, one.second), one.above_one_epoch});
    return rows;
  }
  for (const auto& one : observed) {
    FitRow row{.x = std::exp(one.log_x[0]), .measured = std::exp(one.log_y)};
    row.predicted = law.at(row.x);
    for (const auto& candidate : candidates.rows)
      row.above_one_epoch |= std::log(candidate.x) == one.log_x[0] && candidate.above_one_epoch;
    rows.push_back(row);
  }
  return rows;
}

HeldOut hold_out(const Candidates& candidates, const FitOptions& options) {
  HeldOut held;
  const auto all = observations(options.form, candidates.rows);
  double largest = -INFINITY;
  for (const auto& row : all) largest = std::max(largest, row.log_x[0]);
  std::vector<Observation> rest;
  std::vector<Observation> out;
  for (const auto& row : all) (row.log_x[0] < largest ? rest : out).push_back(row);
  held.what = fmt::format("{} = {:.3g}",
                          options.form == Form::kTokens    ? "D"
                          : options.form == Form::kCompute ? "C"
                                                           : "N",
                          std::exp(largest));
  const PowerModel model = model_of(options, rest);
  held.refusal = too_few(cells_of(rest), options.form, model.size(), 0);
  if (!held.refusal.empty()) return held;
  const Law law = model.law(search(model, rest, options.huber).best.parameters, 0);
  for (const auto& row : out) {
    held.measured += std::exp(row.log_y) / static_cast<double>(out.size());
    held.predicted +=
        law.at(std::exp(row.log_x[0]), std::exp(row.log_x[1])) / static_cast<double>(out.size());
  }
  return held;
}

void warn(const std::vector<Observation>& rows, Fit& fit) {
  const auto above =
      std::count_if(fit.rows.begin(), fit.rows.end(), [](const FitRow& row) { return row.above_one_epoch; });
  if (above > 0)
    fit.warnings.push_back(
        fmt::format("{} of {} rows are above one epoch: their tokens are worth less than new ones", above,
                    fit.rows.size()));
  double least = INFINITY;
  double low = INFINITY;
  double high = -INFINITY;
  for (const auto& row : rows) {
    least = std::min(least, std::exp(row.log_y));
    low = std::min(low, row.log_x[0]);
    high = std::max(high, row.log_x[0]);
  }
  if (std::exp(high - low) < kShortRange && fit.form != Form::kRate)
    fit.warnings.push_back(
        fmt::format("{} spans a factor of {:.2g} alone: exponents of so short a range are fragile",
                    fit.form == Form::kTokens    ? "D"
                    : fit.form == Form::kCompute ? "C"
                                                 : "N",
                    std::exp(high - low)));
  if (fit.floor == Floor::kFitted && fit.cells == static_cast<std::int64_t>(fit.parameters.size()) + 1)
    fit.warnings.push_back(
        fmt::format("{} cells for {} parameters: the intervals rest on a single cell to spare", fit.cells,
                    fit.parameters.size()));
  if (fit.floor == Floor::kFitted && fit.law.floor < 1e-3 * least)
    fit.warnings.push_back("E is not told from zero: the law without E says as much");
  if (10 * fit.agreeing < fit.starts && fit.starts > 1)
    fit.warnings.push_back(
        fmt::format("{} of {} starts alone lead to this minimum", fit.agreeing, fit.starts));
}

Fit fit_candidates(const Candidates& candidates, const FitOptions& options) {
  if (const auto why = why_no_fits(); !why.empty()) throw train::InputError(why);
  Fit fit{.form = options.form, .floor = options.floor, .count = options.count};
  fit.refusal = candidates.refusal;
  fit.rows_note = candidates.note;
  if (!fit.carried()) return fit;
  const auto rows = observations(options.form, candidates.rows);
  const PowerModel model = model_of(options, rows);
  const Cells cells = cells_of(rows);
  fit.cells = static_cast<std::int64_t>(cells.all);
  fit.refusal = too_few(cells, options.form, model.size(), spare_of(options.form));
  if (!fit.carried()) return fit;
  const Search found = search(model, rows, options.huber);
  fit.law = model.law(found.best.parameters, 0);
  fit.starts = found.starts;
  fit.agreeing = found.agreeing;
  fit.objective = found.best.objective;
  fit.refusal = at_bound(fit);
  if (!fit.carried()) return fit;
  fit.rows = rows_of(candidates, options.form, rows, fit.law);
  draw_laws(candidates, model, found.best.parameters, options, fit);
  fit.level = options.level;
  fit.spread = spread_of(fit.units, static_cast<std::int64_t>(rows.size()),
                         static_cast<std::int64_t>(model.size()), options.level);
  fit.parameters = estimates(quantities(fit), fit);
  fit.derived = estimates(derived_quantities(fit), fit);
  if (options.form != Form::kRate) fit.held_out = hold_out(candidates, options);
  warn(rows, fit);
  return fit;
}

}  // namespace

Fit fit_loss(const std::vector<Point>& points, const FitOptions& options) {
  Fit fit = fit_candidates(candidates_of(points, options), options);
  if (!points.empty()) fit.family = points.front().family;
  return fit;
}

Interval interval_at(const Fit& fit, double x, double second) {
  std::vector<double> values;
  for (const auto& law : fit.draws) values.push_back(law.at(x, second));
  return interval_of(fit.law.at(x, second), std::move(values), fit.spread, fit.level, Spread::kLogarithm);
}

Fit fit_rate(const std::vector<RateOptimum>& optima, const FitOptions& options) {
  FitOptions rate = options;
  rate.form = Form::kRate;
  rate.floor = Floor::kZero;
  Candidates candidates;
  for (std::size_t i = 0; i < optima.size(); ++i)
    candidates.rows.push_back({optima[i].params, 1.0, optima[i].lr, fmt::format("size {}", i), false});
  if (optima.size() < 4) rate.resamples = 0;
  Fit fit = fit_candidates(candidates, rate);
  if (!optima.empty()) fit.family = optima.front().family;
  if (fit.carried() && fit.cells == 2)
    fit.warnings.push_back("through two sizes exactly: nothing is left to judge it by");
  return fit;
}

}  // namespace sluice::study
