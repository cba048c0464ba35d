#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "trainer/study/axis.h"
#include "trainer/study/fit/fit_charts.h"
#include "trainer/study/fit/fit_tables.h"
#include "trainer/study/numbers.h"
#include "trainer/study/report_loss.h"

namespace sluice::study {
namespace {

struct Mean {
  double sum = 0.0;
  double count = 0.0;
};

/// A value as CSVs write truth: 1 or true.
bool told(const std::string& text) { return text == "1" || text == "true" || text == "yes"; }

std::vector<std::string> families_of(const std::vector<RateCurve>& curves) {
  std::vector<std::string> families;
  for (const auto& curve : curves)
    if (families.empty() || families.back() != curve.family) families.push_back(curve.family);
  return families;
}

Figure family_figure(const std::vector<RateCurve>& curves, const std::string& family, std::size_t index) {
  Chart chart{.x_label = "learning rate", .y_label = "loss (nats per token)", .x_axis = Axis::kLog10};
  double least = std::numeric_limits<double>::infinity();
  double most = 0.0;
  int colour = 1;
  for (const auto& curve : curves) {
    if (curve.family != family) continue;
    const std::string name =
        counted(curve.params) + " parameters" + (curve.interior ? "" : ", best at an edge");
    Series line{.label = name,
                .colour = colour,
                .mark = curve.interior ? Mark::kLine : Mark::kDashed,
                .x = curve.lr,
                .y = curve.loss};
    Series points = line;
    points.label = "";
    points.mark = curve.interior ? Mark::kPoints : Mark::kRings;
    chart.series.push_back(std::move(line));
    chart.series.push_back(std::move(points));
    colour = colour % kSeriesColours + 1;
    least = std::min(least, *std::ranges::min_element(curve.loss));
    most = std::max(most, *std::ranges::max_element(curve.loss));
  }
  const double room = std::max(0.06 * (most - least), 0.01);
  chart.y_low = least - room;
  chart.y_high = most + room;
  return {fmt::format("learning-rate-{}", index), std::move(chart), family};
}

Grid best_table(const std::vector<RateCurve>& curves) {
  Grid grid{.name = "learning-rate-best",
            .columns = {{"family", Align::kText},
                        {"N"},
                        {"tried"},
                        {"best learning rate"},
                        {"its loss (nats)"},
                        {"enters LR(N)", Align::kText}},
            .rows = {}};
  for (const auto& curve : curves)
    grid.rows.push_back({curve.family, counted(curve.params),
                         fmt::format("{}: {} to {}", curve.lr.size(), significant(curve.lr.front(), 3),
                                     significant(curve.lr.back(), 3)),
                         significant(curve.best_lr, 4), fixed(curve.best_loss, 4),
                         curve.interior ? "yes" : "no: the best is at an edge of what was tried"});
  return grid;
}

/// Tuning runs without a loss: their curve has a hole.
std::vector<Part> unfinished(const StudyFiles& study) {
  Grid grid{.name = "learning-rate-unfinished",
            .columns = {{"tuning run", Align::kText}, {"status", Align::kText}, {"reason", Align::kText}},
            .rows = {}};
  for (const auto& run : study.runs)
    if (run.role == "tuning" && !run.finished())
      grid.rows.push_back({run.name.empty() ? run.id : run.name, run.status, run.reason});
  if (grid.rows.empty()) return {};
  return {Paragraph{plural(grid.rows.size(), "tuning run") + " without a loss: the curves lack these points.",
                    Tone::kWarning},
          std::move(grid)};
}

/// LR(N) of each family, or why there is none.
std::vector<Part> law_parts(const Analysis& analysis) {
  std::vector<Part> parts;
  for (const auto& fit : analysis.rates) {
    if (fit.carried())
      parts.emplace_back(
          Paragraph{fmt::format("{}: {} with A = {}, a = {}.", fit.family, fit.formula(),
                                estimate_text(fit.parameters.at(0)), estimate_text(fit.parameters.at(1)))});
    else
      parts.emplace_back(Paragraph{
          fmt::format("{}: {} is refused: {}.", fit.family, fit.formula(), fit.refusal), Tone::kWarning});
    for (const auto& warning : fit.warnings)
      parts.emplace_back(Paragraph{fmt::format("{}: {}.", fit.family, warning), Tone::kWarning});
  }
  if (std::ranges::any_of(analysis.rates, &Fit::carried)) parts.emplace_back(rate_figure(analysis));
  return parts;
}

}  // namespace

std::vector<RateCurve> rate_curves(const Table& rates) {
  std::map<std::pair<std::string, double>, std::map<double, Mean>> sums;
  std::map<std::pair<std::string, double>, bool> interior;
  for (std::size_t row = 0; row < rates.rows.size(); ++row) {
    const std::pair<std::string, double> key{rates.text(row, "family"), rates.number(row, "params")};
    auto& mean = sums[key][rates.number(row, "lr")];
    mean.sum += rates.number(row, "loss");
    mean.count += 1.0;
    interior[key] = interior[key] || told(rates.text(row, "interior"));
  }
  std::vector<RateCurve> curves;
  for (const auto& [key, means] : sums) {
    RateCurve curve{
        .family = key.first, .params = key.second, .lr = {}, .loss = {}, .interior = interior[key]};
    for (const auto& [lr, mean] : means) {
      curve.lr.push_back(lr);
      curve.loss.push_back(mean.sum / mean.count);
    }
    const auto best = std::ranges::min_element(curve.loss);
    curve.best_loss = *best;
    curve.best_lr = curve.lr[static_cast<std::size_t>(best - curve.loss.begin())];
    curves.push_back(std::move(curve));
  }
  return curves;
}

std::vector<Part> rate_parts(const StudyFiles& study, const Analysis* analysis) {
  if (!study.rates || study.rates->rows.empty()) return {};
  const auto curves = rate_curves(*study.rates);
  Pair pair;
  const auto families = families_of(curves);
  for (std::size_t f = 0; f < families.size(); ++f)
    pair.figures.push_back(family_figure(curves, families[f], f + 1));
  std::vector<Part> parts = {Heading{"Loss against learning rate"}, std::move(pair), best_table(curves)};
  for (auto& part : unfinished(study)) parts.push_back(std::move(part));
  if (analysis != nullptr)
    for (auto& part : law_parts(*analysis)) parts.push_back(std::move(part));
  return parts;
}

}  // namespace sluice::study
