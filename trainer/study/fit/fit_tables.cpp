#include "trainer/study/fit/fit_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "trainer/study/numbers.h"

namespace sluice::study {
namespace {

bool counts_params(Form form) { return form == Form::kParams || form == Form::kParamsTokens; }

/// "all", "without embeddings", ...
std::string count_name(Count count) {
  return count == Count::kAll ? "all" : std::string(name_of(count)).substr(2);
}

std::string named(const std::vector<Estimate>& estimates, const std::string& name) {
  const auto found = std::ranges::find(estimates, name, &Estimate::name);
  return found == estimates.end() ? "0" : estimate_text(*found);
}

std::string held_out_text(const HeldOut& held) {
  if (!held.refusal.empty() || held.what.empty()) return "\u2013";
  return fmt::format("{:+.2f} % at {}", 100.0 * held.error(), held.what);
}

std::string pair_name(const Comparison& one) {
  return family_name(one.first) + ", " + family_name(one.second);
}

std::string law_name(const Comparison& one) {
  std::string law = fmt::format("{}{}", name_of(one.form), one.floor == Floor::kZero ? ", E = 0" : "");
  if (one.count != Count::kAll) law += fmt::format(", {}", name_of(one.count));
  return law;
}

/// The parameters' names of a form, E first.
std::vector<std::string> parameter_names(Form form) {
  if (form == Form::kTokens) return {"E", "B", "b"};
  if (form == Form::kParamsTokens) return {"E", "A", "a", "B", "b"};
  return {"E", "A", "a"};
}

/// The columns that say which fit a row is of.
Grid fits_grid(Form form, const char* what) {
  const char* stems[] = {"fit-params", "fit-tokens", "fit-params-tokens", "fit-compute", "fit-rate"};
  Grid grid{.name = fmt::format("{}-{}", stems[static_cast<std::size_t>(form)], what),
            .columns = {{"family", Align::kText}, {"law", Align::kText}},
            .rows = {}};
  if (counts_params(form)) grid.columns.push_back({"N counts", Align::kText});
  return grid;
}

std::vector<std::string> fit_names(const Fit& fit) {
  std::vector<std::string> names = {family_name(fit.family), fit.floor == Floor::kZero
                                                                 ? std::string(name_of(fit.form)) + ", E = 0"
                                                                 : name_of(fit.form)};
  if (counts_params(fit.form)) names.push_back(count_name(fit.count));
  return names;
}

}  // namespace

std::string estimate_text(const Estimate& estimate, int digits) {
  const std::string value = significant(estimate.value, digits);
  if (std::isnan(estimate.interval.low)) return value;
  return fmt::format("{} ({:.{}g} to {:.{}g})", value, estimate.interval.low, digits, estimate.interval.high,
                     digits);
}

Grid fit_table(const Analysis& analysis, Form form) {
  Grid grid = fits_grid(form, "laws");
  for (const auto& name : parameter_names(form)) grid.columns.push_back({name});
  for (const auto& fit : analysis.fits) {
    if (fit.form != form || !fit.carried()) continue;
    auto row = fit_names(fit);
    for (const auto& name : parameter_names(form)) row.push_back(named(fit.parameters, name));
    grid.rows.push_back(std::move(row));
  }
  return grid;
}

Grid judgement_table(const Analysis& analysis, Form form) {
  Grid grid = fits_grid(form, "judgement");
  if (form == Form::kParamsTokens)
    grid.columns.insert(grid.columns.end(), {{"best N grows as C to the"}, {"best D grows as C to the"}});
  for (const char* name : {"rows", "cells", "trunks or runs", "the rest predicts the largest with"})
    grid.columns.push_back({name});
  if (form == Form::kParams || form == Form::kTokens) grid.columns.push_back({"rows of", Align::kText});
  for (const auto& fit : analysis.fits) {
    if (fit.form != form || !fit.carried()) continue;
    auto row = fit_names(fit);
    for (const auto& derived : fit.derived) row.push_back(estimate_text(derived));
    row.insert(row.end(), {std::to_string(fit.rows.size()), std::to_string(fit.cells),
                           std::to_string(fit.units), held_out_text(fit.held_out)});
    if (form == Form::kParams || form == Form::kTokens) row.push_back(fit.rows_note);
    grid.rows.push_back(std::move(row));
  }
  return grid;
}

Grid iso_flop_table(const Analysis& analysis) {
  Grid grid{.name = "fit-iso-flop",
            .columns = {{"family", Align::kText},
                        {"N counts", Align::kText},
                        {"C (FLOPs)"},
                        {"sizes from"},
                        {"to"},
                        {"best N"},
                        {"best D (tokens)"},
                        {"least loss (nats)"},
                        {"remarks", Align::kText}},
            .rows = {}};
  for (const auto& iso : analysis.iso_flops)
    for (const auto& group : iso.groups) {
      const auto [low, high] = std::minmax_element(group.params.begin(), group.params.end());
      std::string remarks = group.refusal.empty() ? "" : "refused: " + group.refusal;
      for (const auto& warning : group.warnings) remarks += (remarks.empty() ? "" : "; ") + warning;
      const bool carried = group.refusal.empty();
      grid.rows.push_back({family_name(iso.family), count_name(iso.count), significant(group.flops, 3),
                           counted(*low), counted(*high), estimate_text(group.best_params),
                           counted(carried ? group.best_tokens : Point::kUnknown),
                           fixed(carried ? group.best_loss : Point::kUnknown, 4), remarks});
    }
  return grid;
}

Grid comparison_table(const Analysis& analysis) {
  Grid grid{.name = "fit-families",
            .columns = {{"families", Align::kText},
                        {"law", Align::kText},
                        {"exponents, second less first"},
                        {"one exponent for both"},
                        {"laws meet at"},
                        {"draws that meet"}},
            .rows = {}};
  for (const auto& one : analysis.comparisons) {
    if (!one.refusal.empty()) continue;
    const bool meets = std::isfinite(one.crossover.value);
    std::string place =
        meets ? fmt::format("{} = {}", one.form == Form::kCompute ? "C" : "N", estimate_text(one.crossover))
              : std::string("nowhere near the data");
    if (meets && !one.crossover_measured) place += ", beyond the data";
    grid.rows.push_back({pair_name(one), law_name(one), estimate_text(one.exponent_difference),
                         estimate_text(one.shared_exponent), place, percent(one.meeting_share, 0)});
  }
  return grid;
}

Grid multiplier_table(const Analysis& analysis) {
  Grid grid{.name = "fit-multipliers",
            .columns = {{"families", Align::kText},
                        {"law", Align::kText},
                        {"loss (nats)"},
                        {"second needs, times the first"},
                        {"with one exponent for both"}},
            .rows = {}};
  for (const auto& one : analysis.comparisons)
    for (std::size_t i = 0; i < one.multipliers.size(); ++i)
      grid.rows.push_back({i == 0 ? pair_name(one) : "", i == 0 ? law_name(one) : "",
                           fixed(one.multipliers[i].loss, 3), estimate_text(one.multipliers[i].ratio),
                           i == 1 ? estimate_text(one.shared_multiplier) : ""});
  return grid;
}

Grid rate_table(const Analysis& analysis) {
  Grid grid{.name = "fit-optima",
            .columns = {{"family", Align::kText},
                        {"N"},
                        {"D (tokens)"},
                        {"rates tried"},
                        {"best learning rate"},
                        {"loss (nats)"},
                        {"worse on both sides", Align::kText}},
            .rows = {}};
  for (const auto& sweep : analysis.rate_sweeps)
    grid.rows.push_back({family_name(sweep.family), counted(sweep.params), counted(sweep.tokens),
                         std::to_string(sweep.lr.size()), significant(sweep.optimum, 3),
                         fixed(sweep.loss[sweep.best], 4),
                         sweep.interior ? "yes" : "no: at the edge of those tried"});
  return grid;
}

Grid use_table(const Points& points) {
  std::map<std::string, std::size_t> reasons;
  for (const auto& point : points.left_out) ++reasons["left out: " + point.use];
  for (const auto& point : points.points)
    ++reasons[point.above_one_epoch() ? "in fits, above one epoch" : "in fits"];
  Grid grid{.name = "fit-use", .columns = {{"rows of the file", Align::kText}, {"count"}}, .rows = {}};
  for (const auto& [reason, count] : reasons) grid.rows.push_back({reason, std::to_string(count)});
  return grid;
}

Table law_table(const Analysis& analysis) {
  Table table{.columns = {"form", "family", "count", "floor", "parameter", "value", "low", "high"},
              .rows = {}};
  for (const auto* fits : {&analysis.fits, &analysis.rates})
    for (const auto& fit : *fits)
      for (const auto* estimates : {&fit.parameters, &fit.derived})
        for (const auto& one : *estimates)
          table.rows.push_back({name_of(fit.form), fit.family, name_of(fit.count),
                                fit.floor == Floor::kFitted ? "fitted" : "zero", one.name, exact(one.value),
                                exact(one.interval.low), exact(one.interval.high)});
  return table;
}

Table residual_table(const Analysis& analysis) {
  Table table{.columns = {"form", "family", "count", "floor", "x", "second_x", "measured", "predicted",
                          "log_residual", "above_one_epoch"},
              .rows = {}};
  for (const auto& fit : analysis.fits)
    for (const auto& row : fit.rows)
      table.rows.push_back({name_of(fit.form), fit.family, name_of(fit.count),
                            fit.floor == Floor::kFitted ? "fitted" : "zero", exact(row.x),
                            fit.form == Form::kParamsTokens ? exact(row.second) : "", exact(row.measured),
                            exact(row.predicted), exact(row.residual()), row.above_one_epoch ? "yes" : "no"});
  return table;
}

}  // namespace sluice::study
