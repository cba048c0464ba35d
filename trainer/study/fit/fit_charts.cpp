#include "trainer/study/fit/fit_charts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "trainer/study/numbers.h"

namespace sluice::study {
namespace {

constexpr std::size_t kMostSizes = 8;
constexpr int kCurvePoints = 80;
constexpr double kBeyond = 4.0;  // how far a law is drawn beyond its data, as a factor
constexpr const char* kLossLabel = "loss (nats per token)";

/// By the sorted names: the colours of the other charts of a report.
int colour_of(const std::vector<std::string>& families, const std::string& family) {
  std::set<std::string> sorted(families.begin(), families.end());
  return static_cast<int>(std::distance(sorted.begin(), sorted.find(family))) % kSeriesColours + 1;
}

std::string x_label(Form form, Count count) {
  if (form == Form::kTokens) return "training tokens D";
  if (form == Form::kCompute) return "training FLOPs C";
  return std::string("parameters ") + name_of(count);
}

const char* stem_of(Form form) {
  switch (form) {
    case Form::kParams:
      return "fit-params";
    case Form::kTokens:
      return "fit-tokens";
    case Form::kParamsTokens:
      return "fit-params-tokens";
    case Form::kCompute:
      return "fit-compute";
    case Form::kRate:
      return "fit-rate";
  }
  return "fit";
}

std::string suffix_of(Count count) {
  return count == Count::kAll ? "" : count == Count::kNoEmbedding ? "-no-embedding" : "-no-spatial";
}

Series series(const std::string& label, int colour, Mark mark) {
  return {.label = label, .colour = colour, .mark = mark};
}

void add(Series& to, double x, double y) {
  to.x.push_back(x);
  to.y.push_back(y);
}

std::vector<double> spaced(double low, double high) {
  std::vector<double> xs;
  for (int i = 0; i < kCurvePoints; ++i) xs.push_back(low * std::pow(high / low, i / (kCurvePoints - 1.0)));
  return xs;
}

struct Ends {
  double low = INFINITY;
  double high = 0.0;
};

Ends ends_of(const std::vector<FitRow>& rows) {
  Ends ends;
  for (const auto& row : rows) {
    ends.low = std::min(ends.low, row.x);
    ends.high = std::max(ends.high, row.x);
  }
  return ends;
}

/// Band, law, what lies beyond the data dashed, and the rows.
void add_fit(const Fit& fit, int colour, Chart& chart) {
  const std::string name = family_name(fit.family);
  const Ends ends = ends_of(fit.rows);
  Series band = series(fmt::format("{}, {:.0f} % interval", name, 100.0 * fit.level), colour, Mark::kBand);
  Series line = series(name + ", law", colour, Mark::kLine);
  Series beyond = series(name + ", law beyond the data", colour, Mark::kDashed);
  Series points = series(name, colour, Mark::kPoints);
  for (const double x : spaced(ends.low, ends.high * kBeyond)) {
    const Interval interval = interval_at(fit, x);
    band.x.push_back(x);
    band.y_low.push_back(interval.low);
    band.y_high.push_back(interval.high);
    add(x <= ends.high ? line : beyond, x, fit.law.at(x));
  }
  add(line, ends.high, fit.law.at(ends.high));
  beyond.x.insert(beyond.x.begin(), ends.high);
  beyond.y.insert(beyond.y.begin(), fit.law.at(ends.high));
  for (const auto& row : fit.rows) add(points, row.x, row.measured);
  const bool has_band = std::ranges::any_of(band.y_low, [](double y) { return std::isfinite(y); });
  if (has_band) chart.series.insert(chart.series.begin(), std::move(band));
  chart.series.push_back(std::move(line));
  chart.series.push_back(std::move(beyond));
  chart.series.push_back(std::move(points));
}

/// Encloses rows and laws, not the bands: those of few cells would flatten all else.
void set_losses(Chart& chart) {
  Ends ends;
  for (const auto& one : chart.series)
    for (const double y : one.y) ends = {std::min(ends.low, y), std::max(ends.high, y)};
  if (ends.high <= 0.0) return;
  chart.y_low = ends.low / 1.1;
  chart.y_high = ends.high * 1.1;
}

/// The first law of each family that is carried: the one with E where there is one.
std::vector<Fit> shown_fits(const std::vector<Fit>& fits, Form form, Count count) {
  std::vector<Fit> shown;
  for (const auto& fit : fits) {
    const bool again = std::ranges::any_of(shown, [&](const Fit& one) { return one.family == fit.family; });
    if (fit.form == form && fit.count == count && fit.carried() && !again) shown.push_back(fit);
  }
  return shown;
}

double x_of(const Point& point, Form form, Count count) {
  return form == Form::kTokens ? point.tokens : form == Form::kCompute ? point.flops : point.count(count);
}

/// What the file has besides the rows of a fit: other slices, cells above the frontier, rows left out of all
/// fits.
Series others(const Analysis& analysis, const Fit& fit, int colour) {
  Series rings = series(family_name(fit.family) + ", not in the fit", colour, Mark::kRings);
  rings.tint = 2;
  for (const auto* list : {&analysis.points.points, &analysis.points.left_out})
    for (const auto& point : *list) {
      const double x = x_of(point, fit.form, fit.count);
      const bool inside = std::ranges::any_of(fit.rows, [&](const FitRow& row) {
        return std::abs(row.x / x - 1.0) < 1e-9 && row.measured == point.loss;
      });
      if (point.family == fit.family && std::isfinite(x) && std::isfinite(point.loss) && !inside)
        add(rings, x, point.loss);
    }
  return rings;
}

/// Colours and tints for sizes by rising N: the larger the fuller.
Series shaded(const std::string& label, std::size_t index, std::size_t count, Mark mark) {
  Series out = series(label, static_cast<int>((count - 1 - index) / 4) % kSeriesColours + 1, mark);
  out.tint = static_cast<int>((count - 1 - index) % 4);
  return out;
}

}  // namespace

Figure fit_figure(const Analysis& analysis, Form form, Count count) {
  Chart chart{
      .x_label = x_label(form, count), .y_label = kLossLabel, .x_axis = Axis::kLog10, .y_axis = Axis::kLog10};
  const auto families = analysis.points.families();
  std::vector<Series> behind;
  for (const auto& fit : shown_fits(analysis.fits, form, count)) {
    const int colour = colour_of(families, fit.family);
    if (form == Form::kCompute) behind.push_back(others(analysis, fit, colour));
    add_fit(fit, colour, chart);
  }
  std::erase_if(behind, [](const Series& one) { return one.x.empty(); });
  chart.series.insert(chart.series.begin(), behind.begin(), behind.end());
  set_losses(chart);
  return {.name = stem_of(form) + suffix_of(count), .chart = std::move(chart)};
}

Figure residual_figure(const Analysis& analysis, Form form, Count count) {
  Chart chart{.x_label = "predicted loss (nats per token)",
              .y_label = "measured over predicted, less 1 (%)",
              .x_axis = Axis::kLog10};
  const auto families = analysis.points.families();
  for (const auto& fit : shown_fits(analysis.fits, form, count)) {
    Series points = series(family_name(fit.family), colour_of(families, fit.family), Mark::kPoints);
    for (const auto& row : fit.rows) add(points, row.predicted, 100.0 * std::expm1(row.residual()));
    chart.series.push_back(std::move(points));
  }
  return {.name = stem_of(form) + suffix_of(count) + "-residuals", .chart = std::move(chart)};
}

Figure surface_figure(const Fit& fit) {
  Chart chart{.x_label = x_label(Form::kTokens, fit.count),
              .y_label = kLossLabel,
              .x_axis = Axis::kLog10,
              .y_axis = Axis::kLog10};
  std::map<double, std::vector<FitRow>> sizes;
  Ends tokens;
  for (const auto& row : fit.rows) {
    sizes[row.x].push_back(row);
    tokens = {std::min(tokens.low, row.second), std::max(tokens.high, row.second)};
  }
  const std::size_t shown = std::min(sizes.size(), kMostSizes);
  for (std::size_t i = 0; i < shown; ++i) {
    const auto& [size, rows] = *std::next(
        sizes.begin(), static_cast<std::ptrdiff_t>(shown < 2 ? 0 : i * (sizes.size() - 1) / (shown - 1)));
    const std::string name = "N = " + counted(size);
    Series line = shaded(name + ", law", i, shown, Mark::kLine);
    Series points = shaded(name, i, shown, Mark::kPoints);
    for (const double d : spaced(tokens.low, tokens.high)) add(line, d, fit.law.at(size, d));
    for (const auto& row : rows) add(points, row.second, row.measured);
    chart.series.push_back(std::move(line));
    chart.series.push_back(std::move(points));
  }
  return {.name = fmt::format("{}-{}{}", stem_of(fit.form), family_name(fit.family), suffix_of(fit.count)),
          .chart = std::move(chart)};
}

Figure iso_flop_figure(const IsoFlops& iso) {
  Chart chart{.x_label = x_label(Form::kParams, iso.count), .y_label = kLossLabel, .x_axis = Axis::kLog10};
  Series minima = series("minimum", 6, Mark::kRings);
  for (std::size_t g = 0; g < iso.groups.size(); ++g) {
    const IsoFlop& group = iso.groups[g];
    const std::string name = fmt::format("C = {:.2g} FLOPs", group.flops);
    Series points = shaded(name, g, iso.groups.size(), Mark::kPoints);
    points.x = group.params;
    points.y = group.loss;
    chart.series.push_back(std::move(points));
    if (!group.refusal.empty()) continue;
    Series line = shaded(name + ", parabola", g, iso.groups.size(), Mark::kLine);
    const auto [low, high] = std::minmax_element(group.params.begin(), group.params.end());
    for (const double n : spaced(*low, *high)) add(line, n, group.at(n));
    chart.series.push_back(std::move(line));
    add(minima, group.best_params.value, group.best_loss);
  }
  chart.series.push_back(std::move(minima));
  return {.name = "fit-iso-flop-" + family_name(iso.family), .chart = std::move(chart)};
}

Figure sweep_figure(const std::vector<RateSweep>& sweeps, const std::string& family) {
  Chart chart{.x_label = "learning rate", .y_label = kLossLabel, .x_axis = Axis::kLog2};
  std::vector<RateSweep> own;
  std::ranges::copy_if(sweeps, std::back_inserter(own),
                       [&](const RateSweep& sweep) { return sweep.family == family; });
  Series best = series("optimum", 6, Mark::kRings);
  for (std::size_t i = 0; i < own.size(); ++i) {
    const std::string tokens = std::isfinite(own[i].tokens) ? ", D = " + counted(own[i].tokens) : "";
    const std::string name = "N = " + counted(own[i].params) + tokens;
    for (const Mark mark : {Mark::kLine, Mark::kPoints}) {
      Series one = shaded(name, i, own.size(), mark);
      one.x = own[i].lr;
      one.y = own[i].loss;
      chart.series.push_back(std::move(one));
    }
    if (own[i].interior) add(best, own[i].optimum, own[i].loss[own[i].best]);
  }
  chart.series.push_back(std::move(best));
  return {.name = "fit-sweep-" + family_name(family), .chart = std::move(chart)};
}

Figure rate_figure(const Analysis& analysis) {
  Chart chart{.x_label = x_label(Form::kRate, Count::kAll),
              .y_label = "best learning rate",
              .x_axis = Axis::kLog10,
              .y_axis = Axis::kLog10};
  for (const auto& fit : analysis.rates)
    if (fit.carried()) add_fit(fit, colour_of(analysis.points.families(), fit.family), chart);
  return {.name = stem_of(Form::kRate), .chart = std::move(chart)};
}

}  // namespace sluice::study
