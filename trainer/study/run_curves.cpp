#include "trainer/study/run_curves.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "trainer/study/csv.h"
#include "trainer/study/curves.h"
#include "trainer/study/numbers.h"
#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

constexpr std::int64_t kPoints = 240;  // of one run in a chart of many

using Member = std::vector<double> RunCurve::*;

/// The unit is the run's own, told on some lines.
double flops_per_token(const std::vector<TrainRecord>& records) {
  for (const auto& record : records)
    if (std::isfinite(record.flops_per_token)) return record.flops_per_token;
  return std::numeric_limits<double>::quiet_NaN();
}

/// A branch, which logged the end of a run alone, is smoothed as the whole run would be.
std::int64_t smoothing_of(const std::vector<TrainRecord>& records) {
  if (records.empty()) return 1;
  const std::int64_t covered = records.back().step - records.front().step + 1;
  const std::int64_t whole = std::max(records.back().step, covered);
  const double share = static_cast<double>(whole) / static_cast<double>(covered);
  return smoothing_steps(static_cast<std::size_t>(share * static_cast<double>(records.size())));
}

/// The steep beginnings, a few per cent of each run, would take most of a chart: it begins where all but
/// these are in it. The data keep them.
void crop_beginnings(Chart& chart) {
  constexpr std::size_t kShare = 40;  // of a run's points
  double high = 0.0;
  for (const auto& series : chart.series)
    if (!series.y.empty() && std::isfinite(series.y[series.y.size() / kShare]))
      high = std::max(high, series.y[series.y.size() / kShare]);
  double low = std::numeric_limits<double>::infinity();
  for (const auto& series : chart.series)
    for (std::size_t i = 0; i < series.x.size(); ++i)
      if (series.y[i] <= high && series.x[i] > 0.0) low = std::min(low, series.x[i]);
  if (!std::isfinite(low)) return;
  constexpr double kRoom = 1.03;
  chart.y_high = high * kRoom;
  chart.x_low = low / kRoom;
}

Chart chart_of(const std::vector<RunCurve>& curves, Member x, const char* x_label) {
  Chart chart{
      .x_label = x_label, .y_label = "loss (nats per token)", .x_axis = Axis::kLog10, .y_axis = Axis::kLog10};
  for (const auto& curve : curves)
    chart.series.push_back({.label = curve.label,
                            .colour = curve.colour,
                            .mark = Mark::kLine,
                            .x = curve.*x,
                            .y = curve.loss,
                            .tint = curve.tint});
  crop_beginnings(chart);
  return chart;
}

}  // namespace

RunCurve run_curve(const Metrics& metrics, std::string label, double seconds_before) {
  std::vector<double> tokens;
  std::vector<double> seconds;
  std::vector<double> loss;
  std::vector<double> flops;
  double spent = seconds_before;
  const double unit = flops_per_token(metrics.train);
  for (const auto& record : metrics.train) {
    spent += or_zero(record.step_s);
    tokens.push_back(static_cast<double>(record.tokens));
    flops.push_back(unit * static_cast<double>(record.tokens));
    seconds.push_back(spent);
    loss.push_back(record.loss);
  }
  RunCurve curve{.label = std::move(label),
                 .tokens = thinned(tokens, kPoints),
                 .flops = thinned(flops, kPoints),
                 .seconds = thinned(seconds, kPoints),
                 .loss = thinned(smoothed(loss, smoothing_of(metrics.train)), kPoints),
                 .valid_tokens = {},
                 .valid_loss = {}};
  for (const auto& record : metrics.valid) {
    curve.valid_tokens.push_back(static_cast<double>(record.tokens));
    curve.valid_loss.push_back(record.loss);
  }
  return curve;
}

double seconds_until(const Metrics& metrics, std::int64_t step) {
  double seconds = 0.0;
  for (const auto& record : metrics.train)
    if (record.step <= step) seconds += or_zero(record.step_s);
  return seconds;
}

Overlay read_overlay(const std::filesystem::path& file) {
  const Table table = read_csv(file);
  for (const char* column : {"tokens", "loss"})
    if (!table.has(column))
      throw train::InputError(
          fmt::format("{}: has no column '{}': an overlay's columns are tokens,loss", file.string(), column));
  Overlay overlay{.label = file.stem().string(), .tokens = {}, .loss = {}};
  for (std::size_t row = 0; row < table.rows.size(); ++row) {
    overlay.tokens.push_back(table.number(row, "tokens"));
    overlay.loss.push_back(table.number(row, "loss"));
  }
  if (overlay.tokens.empty()) throw train::InputError(fmt::format("{}: has no row", file.string()));
  return overlay;
}

std::vector<Series> overlay_series(const std::vector<Overlay>& overlays, double divisor, int colours_used) {
  std::vector<Series> series;
  for (const auto& overlay : overlays) {
    Series one{.label = overlay.label,
               .colour = colours_used++ % kSeriesColours + 1,
               .mark = Mark::kDashed,
               .y = overlay.loss};
    for (const double tokens : overlay.tokens) one.x.push_back(tokens / divisor);
    series.push_back(std::move(one));
  }
  return series;
}

std::vector<Part> curve_parts(const std::vector<RunCurve>& curves, const std::vector<Overlay>& overlays) {
  Chart tokens = chart_of(curves, &RunCurve::tokens, "tokens seen");
  int used = 0;
  for (const auto& curve : curves) used = std::max(used, curve.colour);
  for (auto& series : overlay_series(overlays, 1.0, used)) tokens.series.push_back(std::move(series));
  std::vector<Part> parts;
  const auto add = [&](const char* name, Chart chart) {
    if (drawable(chart)) parts.emplace_back(Figure{name, std::move(chart)});
  };
  add("loss-tokens", std::move(tokens));
  add("loss-flops", chart_of(curves, &RunCurve::flops, "useful training FLOPs"));
  add("loss-time", chart_of(curves, &RunCurve::seconds, "time in steps (s)"));
  if (!parts.empty())
    parts.emplace_back(Paragraph{
        "Train loss, smoothed over a thirtieth of each run; the first steps, above the charts, are in their "
        "data. Time without evaluation and checkpoints."});
  return parts;
}

}  // namespace sluice::study
