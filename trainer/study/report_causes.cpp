#include "trainer/study/report_causes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "trainer/study/numbers.h"

namespace sluice::study {
namespace {

constexpr double kMiB = 1024.0 * 1024.0;

struct Cause {
  const char* name;
  int colour;
  double (*seconds)(const SpeedCell&);
};

// From the bottom of a bar to its top.
constexpr std::array<Cause, 4> kCauses = {
    {{"compute", 1, [](const SpeedCell& cell) { return cell.compute_s(); }},
     {"exposed communication", 2, [](const SpeedCell& cell) { return or_zero(cell.comm_exposed_s); }},
     {"data wait", 3, [](const SpeedCell& cell) { return or_zero(cell.data_wait_s); }},
     {"other", 6, [](const SpeedCell& cell) { return cell.other_s(); }}}};

std::string title_of(const SpeedCurve& curve) {
  return curve.mode + (curve.label.empty() ? "" : ", " + curve.label);
}

Figure cause_figure(const SpeedCurve& curve, std::size_t index) {
  Chart chart{.x_label = "ranks", .y_label = "time of a step (ms)", .y_low = 0.0};
  std::vector<double> sums;
  std::vector<double> places;
  for (const auto& point : curve.points) {
    chart.x_names.push_back(fixed(point.cell.ranks, 0));
    places.push_back(static_cast<double>(chart.x_names.size()));
    sums.push_back(0.0);
  }
  for (const auto& cause : kCauses) {
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += 1e3 * cause.seconds(curve.points[i].cell);
    chart.series.push_back(
        {.label = cause.name, .colour = cause.colour, .mark = Mark::kBars, .x = places, .y = sums});
  }
  std::ranges::reverse(chart.series);  // the tallest first, the others over it
  return {fmt::format("causes-{}", index), std::move(chart), title_of(curve)};
}

Grid cause_table(const std::vector<SpeedCurve>& curves) {
  Grid grid{.name = "causes", .columns = {{"curve", Align::kText}, {"ranks"}, {"step (ms)"}}, .rows = {}};
  for (const auto& cause : kCauses) grid.columns.push_back({std::string(cause.name) + " (ms)"});
  grid.columns.push_back({"fastest to slowest rank (ms)"});
  grid.columns.push_back({"spread of ranks"});
  for (const auto& curve : curves)
    for (const auto& point : curve.points) {
      if (point.borrowed) continue;
      const SpeedCell& cell = point.cell;
      std::vector<std::string> row = {title_of(curve), fixed(cell.ranks, 0),
                                      significant(1e3 * cell.step_s, 4)};
      for (const auto& cause : kCauses) row.push_back(significant(1e3 * cause.seconds(cell), 3));
      row.push_back(significant(1e3 * cell.rank_step_s_min, 4) + " to " +
                    significant(1e3 * cell.rank_step_s_max, 4));
      row.push_back(percent(cell.rank_spread()));
      grid.rows.push_back(std::move(row));
    }
  return grid;
}

std::vector<Figure> device_figures(const std::vector<SpeedCurve>& curves) {
  struct Quantity {
    const char* name;
    const char* title;
    const char* axis;
    double (*value)(const SpeedCell&);
  };
  constexpr std::array<Quantity, 4> kQuantities = {
      {{"mfu", "Model FLOPs utilisation", "MFU (% of the measured peak)",
        [](const SpeedCell& cell) { return 100.0 * cell.mfu; }},
       {"hfu", "Hardware FLOPs utilisation", "HFU (% of the measured peak)",
        [](const SpeedCell& cell) { return 100.0 * cell.hfu; }},
       {"energy", "Energy", "energy per token (mJ)",
        [](const SpeedCell& cell) { return 1e3 * cell.energy_per_token_j; }},
       {"memory", "Memory", "peak memory of rank 0 (MiB)",
        [](const SpeedCell& cell) { return cell.peak_memory_bytes / kMiB; }}}};
  std::vector<Figure> figures;
  for (const auto& quantity : kQuantities) {
    Chart chart{.x_label = "ranks", .y_label = quantity.axis, .y_low = 0.0, .x_axis = Axis::kLog2};
    int colour = 1;
    for (const auto& curve : curves) {
      Series series{.label = title_of(curve), .colour = colour, .mark = Mark::kPoints};
      for (const auto& point : curve.points) {
        series.x.push_back(point.cell.ranks);
        series.y.push_back(quantity.value(point.cell));
      }
      Series line = series;
      line.label.clear();
      line.mark = Mark::kLine;
      chart.series.push_back(std::move(line));
      chart.series.push_back(std::move(series));
      colour = colour % 5 + 1;
    }
    if (drawable(chart)) figures.push_back({quantity.name, std::move(chart), quantity.title});
  }
  return figures;
}

Grid device_table(const std::vector<SpeedCurve>& curves) {
  Grid grid{.name = "device",
            .columns = {{"curve", Align::kText},
                        {"ranks"},
                        {"device", Align::kText},
                        {"MFU"},
                        {"HFU"},
                        {"power (W)"},
                        {"energy (mJ a token)"},
                        {"peak memory (MiB)"}},
            .rows = {}};
  for (const auto& curve : curves)
    for (const auto& point : curve.points) {
      if (point.borrowed) continue;
      const SpeedCell& cell = point.cell;
      grid.rows.push_back({title_of(curve), fixed(cell.ranks, 0), cell.device_model, percent(cell.mfu),
                           percent(cell.hfu), significant(cell.power_w, 4),
                           significant(1e3 * cell.energy_per_token_j, 3),
                           fixed(cell.peak_memory_bytes / kMiB, 0)});
    }
  return grid;
}

}  // namespace

std::vector<Part> cause_parts(const std::vector<SpeedCurve>& curves) {
  if (curves.empty()) return {};
  Pair pair;
  for (std::size_t c = 0; c < curves.size(); ++c) pair.figures.push_back(cause_figure(curves[c], c + 1));
  return {Heading{"Where the time went"}, std::move(pair), cause_table(curves),
          Paragraph{"Compute: forward, backward and update. Exposed communication: what the step waited for. "
                    "Spread of ranks: slowest less fastest over slowest, each by its own phases."}};
}

std::vector<Part> prediction_parts(const std::vector<SpeedCurve>& curves) {
  Grid grid{.name = "predicted",
            .columns = {{"curve", Align::kText},
                        {"ranks"},
                        {"step (ms)"},
                        {"predicted (ms)"},
                        {"error"},
                        {"memory (MiB)"},
                        {"predicted (MiB)"},
                        {"error of memory"}},
            .rows = {}};
  double worst = 0.0;
  for (const auto& curve : curves)
    for (const auto& point : curve.points) {
      const SpeedCell& cell = point.cell;
      if (point.borrowed || !std::isfinite(cell.predicted_step_s)) continue;
      worst = std::max(worst, std::abs(cell.step_error()));
      grid.rows.push_back({title_of(curve), fixed(cell.ranks, 0), significant(1e3 * cell.step_s, 4),
                           significant(1e3 * cell.predicted_step_s, 4), percent(cell.step_error()),
                           fixed(cell.peak_memory_bytes / kMiB, 0),
                           fixed(cell.predicted_memory_bytes / kMiB, 0), percent(cell.memory_error())});
    }
  if (grid.rows.empty()) return {};
  return {Heading{"Predicted and measured"}, std::move(grid),
          Paragraph{fmt::format("Error: predicted over measured, less one. The largest of a step's time: {}.",
                                percent(worst))}};
}

std::vector<Part> device_parts(const std::vector<SpeedCurve>& curves) {
  if (curves.empty()) return {};
  return {Heading{"Use of the device"}, Pair{device_figures(curves)}, device_table(curves)};
}

}  // namespace sluice::study
