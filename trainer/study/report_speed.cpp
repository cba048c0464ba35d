#include "trainer/study/report_speed.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "trainer/study/numbers.h"
#include "trainer/study/report_causes.h"

namespace sluice::study {
namespace {

constexpr int kGrey = 6;

using Value = std::function<double(const SpeedPoint&)>;

std::vector<SpeedCurve> of_mode(const std::vector<SpeedCurve>& curves, const std::string& mode) {
  std::vector<SpeedCurve> some;
  for (const auto& curve : curves)
    if (curve.mode == mode) some.push_back(curve);
  return some;
}

std::vector<double> values_of(const SpeedCurve& curve, const Value& value) {
  std::vector<double> values;
  for (const auto& point : curve.points) values.push_back(value(point));
  return values;
}

double ranks_of(const SpeedPoint& point) { return point.cell.ranks; }
double speed_of(const SpeedPoint& point) { return point.cell.tokens_per_s; }

std::string name_of(const SpeedCurve& curve, const char* otherwise) {
  return curve.label.empty() ? otherwise : curve.label;
}

Series series_of(const SpeedCurve& curve, int colour, Mark mark, const Value& value, std::string label) {
  return {.label = std::move(label),
          .colour = colour,
          .mark = mark,
          .x = values_of(curve, ranks_of),
          .y = values_of(curve, value)};
}

/// A straight line from each curve's base: what it would be without any loss.
Series ideal(const SpeedCurve& curve) {
  const SpeedCell& base = curve.points.front().cell;
  return series_of(
      curve, kGrey, Mark::kDashed,
      [&](const SpeedPoint& point) { return base.tokens_per_s * point.cell.ranks / base.ranks; }, "ideal");
}

double predicted_speed(const SpeedPoint& point) {
  return point.cell.tokens_per_s * point.cell.step_s / point.cell.predicted_step_s;
}

/// Beyond the first of several points, the base that curves share.
bool any_finite(const std::vector<double>& values) {
  const std::ptrdiff_t base = values.size() > 1 ? 1 : 0;
  return std::any_of(values.begin() + base, values.end(), [](double value) { return std::isfinite(value); });
}

Figure speed_figure(const std::vector<SpeedCurve>& curves, const std::string& mode) {
  Chart chart{
      .x_label = "ranks", .y_label = "tokens/s, all ranks", .x_axis = Axis::kLog2, .y_axis = Axis::kLog10};
  for (const auto& curve : curves) chart.series.push_back(ideal(curve));
  int colour = 1;
  for (const auto& curve : curves) {
    chart.series.push_back(series_of(curve, colour, Mark::kLine, speed_of, ""));
    Series bars = series_of(curve, colour, Mark::kErrorBars, speed_of, name_of(curve, "measured"));
    bars.y_low = values_of(curve, [](const SpeedPoint& point) { return point.cell.tokens_per_s_low; });
    bars.y_high = values_of(curve, [](const SpeedPoint& point) { return point.cell.tokens_per_s_high; });
    chart.series.push_back(std::move(bars));
    Series predicted = series_of(curve, colour, Mark::kRings, predicted_speed,
                                 "predicted" + (curve.label.empty() ? "" : ", " + curve.label));
    if (any_finite(predicted.y)) chart.series.push_back(std::move(predicted));
    colour = colour % kSeriesColours + 1;
  }
  return {mode + "-tokens-per-s", std::move(chart), {}};
}

Figure line_figure(const std::vector<SpeedCurve>& curves, const std::string& name, Chart chart,
                   const Value& value, const std::string& title) {
  int colour = 1;
  for (const auto& curve : curves) {
    chart.series.push_back(series_of(curve, colour, Mark::kLine, value, ""));
    chart.series.push_back(series_of(curve, colour, Mark::kPoints, value, name_of(curve, "measured")));
    colour = colour % kSeriesColours + 1;
  }
  return {name, std::move(chart), title};
}

double highest(const std::vector<SpeedCurve>& curves, const Value& value) {
  double most = 0.0;
  for (const auto& curve : curves)
    for (const double one : values_of(curve, value))
      if (std::isfinite(one)) most = std::max(most, one);
  return most;
}

Figure efficiency_figure(const std::vector<SpeedCurve>& curves, const std::string& mode) {
  const Value value = [](const SpeedPoint& point) { return 100.0 * point.efficiency; };
  Chart chart{.x_label = "ranks",
              .y_label = "efficiency (%)",
              .y_low = 0.0,
              .y_high = std::max(110.0, 1.05 * highest(curves, value)),
              .x_axis = Axis::kLog2};
  for (const auto& curve : curves)
    chart.series.push_back(series_of(
        curve, kGrey, Mark::kDashed, [](const SpeedPoint&) { return 100.0; }, "ideal"));
  return line_figure(curves, mode + "-efficiency", std::move(chart), value, "Efficiency");
}

Figure speed_up_figure(const std::vector<SpeedCurve>& curves, const std::string& mode) {
  Chart chart{.x_label = "ranks", .y_label = "speed-up", .x_axis = Axis::kLog2, .y_axis = Axis::kLog2};
  for (const auto& curve : curves) {
    const double base = curve.points.front().cell.ranks;
    chart.series.push_back(series_of(
        curve, kGrey, Mark::kDashed, [base](const SpeedPoint& point) { return point.cell.ranks / base; },
        "ideal"));
  }
  return line_figure(
      curves, mode + "-speed-up", std::move(chart), [](const SpeedPoint& point) { return point.speed_up; },
      "Speed-up");
}

Grid scaling_table(const std::vector<SpeedCurve>& curves, const std::string& mode) {
  const bool strong = mode == "strong";
  Grid grid{.name = mode + "-scaling",
            .columns = {{"curve", Align::kText},
                        {"ranks"},
                        {"dp x sp"},
                        {"global batch"},
                        {"tokens/s"},
                        {"10th to 90th percentile of steps"},
                        {"step (ms)"},
                        {"speed-up"},
                        {"efficiency"},
                        {strong ? "serial fraction (Karp-Flatt)" : "serial fraction (scaled)"}},
            .rows = {}};
  for (const auto& curve : curves)
    for (const auto& [cell, speed_up, efficiency, serial, borrowed] : curve.points) {
      if (borrowed) continue;
      grid.rows.push_back(
          {name_of(curve, mode.c_str()), fixed(cell.ranks, 0), fixed(cell.dp, 0) + " x " + fixed(cell.sp, 0),
           fixed(cell.global_batch, 0), grouped(cell.tokens_per_s),
           grouped(cell.tokens_per_s_low) + " to " + grouped(cell.tokens_per_s_high),
           significant(1e3 * cell.step_s, 4), fixed(speed_up, 3), percent(efficiency), fixed(serial, 4)});
    }
  return grid;
}

std::string definitions(const std::string& mode) {
  if (mode == "strong")
    return "The whole batch is fixed. Speed-up S on p ranks: tokens/s over that of the fewest ranks; "
           "efficiency S / p; serial fraction after Karp and Flatt (1/S - 1/p) / (1 - 1/p). Bars: 10th to "
           "90th percentile over steps.";
  return "The batch of a rank is fixed. Speed-up S on p ranks: tokens/s over that of the fewest ranks; "
         "efficiency S / p; serial fraction of the scaled problem (Gustafson) (p - S) / (p - 1). Bars: 10th "
         "to 90th percentile over steps.";
}

std::vector<Part> mode_parts(const std::vector<SpeedCurve>& curves, const std::string& mode) {
  if (curves.empty()) return {};
  const std::string title = mode == "strong" ? "Strong scaling" : "Weak scaling";
  return {Heading{title}, speed_figure(curves, mode),
          Pair{{speed_up_figure(curves, mode), efficiency_figure(curves, mode)}}, scaling_table(curves, mode),
          Paragraph{definitions(mode)}};
}

}  // namespace

KeyNumbers speed_key_numbers(const std::vector<SpeedCurve>& curves) {
  KeyNumbers key;
  const SpeedPoint* fastest = nullptr;
  for (const auto& curve : curves)
    for (const auto& point : curve.points)
      if (fastest == nullptr || speed_of(point) > speed_of(*fastest)) fastest = &point;
  if (fastest == nullptr) return key;
  const auto ranks_text = [](const SpeedCell& cell) {
    return plural(static_cast<std::size_t>(cell.ranks), "rank");
  };
  key.numbers.push_back(
      {"fastest", counted(speed_of(*fastest)),
       fmt::format("tokens/s on {}, {} scaling", ranks_text(fastest->cell), fastest->cell.mode)});
  for (const char* mode : {"strong", "weak"}) {
    const SpeedPoint* best = nullptr;
    for (const auto& curve : curves)
      for (const auto& point : curve.points)
        if (curve.mode == mode && std::isfinite(point.serial) &&
            (best == nullptr || point.speed_up > best->speed_up))
          best = &point;
    if (best != nullptr)
      key.numbers.push_back(
          {std::string(mode) + " speed-up", fixed(best->speed_up, 2),
           fmt::format("{}, efficiency {}", ranks_text(best->cell), percent(best->efficiency))});
  }
  const double mfu = highest(curves, [](const SpeedPoint& point) { return point.cell.mfu; });
  if (mfu > 0.0) key.numbers.push_back({"MFU", percent(mfu), "of the measured peak, the best cell"});
  return key;
}

std::vector<Part> speed_parts(const std::vector<SpeedCurve>& curves) {
  std::vector<Part> parts;
  for (const char* mode : {"strong", "weak"})
    for (auto& part : mode_parts(of_mode(curves, mode), mode)) parts.push_back(std::move(part));
  for (auto& part : cause_parts(curves)) parts.push_back(std::move(part));
  for (auto& part : prediction_parts(curves)) parts.push_back(std::move(part));
  for (auto& part : device_parts(curves)) parts.push_back(std::move(part));
  return parts;
}

std::vector<Part> missing_cells(const std::vector<SpeedCell>& cells) {
  Grid grid{.name = "missing-cells",
            .columns = {{"family", Align::kText},
                        {"model", Align::kText},
                        {"mode", Align::kText},
                        {"ranks"},
                        {"reason", Align::kText},
                        {"run", Align::kText}},
            .rows = {}};
  for (const auto& cell : cells)
    if (!cell.measured())
      grid.rows.push_back({cell.family, cell.model, cell.mode, fixed(cell.ranks, 0),
                           cell.reason.empty() ? "no reason is given" : cell.reason, cell.run});
  if (grid.rows.empty()) return {};
  const std::string title =
      fmt::format("Not measured: {} of {}.", grid.rows.size(), plural(cells.size(), "cell"));
  return {Heading{"Failed and missing cells"}, Paragraph{title, Tone::kWarning}, std::move(grid)};
}

}  // namespace sluice::study
