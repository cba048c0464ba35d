#include "trainer/study/compare_studies.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "trainer/study/numbers.h"
#include "trainer/study/parting.h"
#include "trainer/study/report_provenance.h"
#include "trainer/study/report_study.h"

namespace sluice::study {
namespace {

namespace fs = std::filesystem;

/// The fields that must be equal, as one text.
std::string identity(const SpeedCell& cell) {
  return fmt::format("{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}", cell.family, cell.model, cell.mode, cell.ranks,
                     cell.dp, cell.sp, cell.sp > 1.0 ? cell.sp_mode : "", cell.zero, cell.precision,
                     cell.seq_len, cell.global_batch);
}

/// Two studies' names; told apart where they are the same.
struct Names {
  std::string first;
  std::string second;
};
Names names_of(const StudyFiles& a, const StudyFiles& b) {
  if (a.name != b.name) return {a.name, b.name};
  return {a.name + " (first)", b.name + " (second)"};
}

/// The curves of one study, each in the colour of its place.
void add_curves(const std::vector<SpeedCell>& cells, const std::string& name, const std::string& mode,
                Mark line, Mark point, Chart& chart) {
  int place = 0;
  for (const auto& curve : speed_curves(cells)) {
    if (curve.mode != mode) continue;
    Series series{.label = "", .colour = place++ % kSeriesColours + 1, .mark = line};
    for (const auto& one : curve.points) {
      series.x.push_back(one.cell.ranks);
      series.y.push_back(one.cell.tokens_per_s);
    }
    chart.series.push_back(series);
    series.label = name + (curve.label.empty() ? "" : ", " + curve.label);
    series.mark = point;
    chart.series.push_back(std::move(series));
  }
}

Figure speed_figure(const std::vector<SpeedCell>& first, const std::vector<SpeedCell>& second,
                    const Names& names, const std::string& mode) {
  Chart chart{
      .x_label = "ranks", .y_label = "tokens/s, all ranks", .x_axis = Axis::kLog2, .y_axis = Axis::kLog10};
  add_curves(first, names.first, mode, Mark::kLine, Mark::kPoints, chart);
  add_curves(second, names.second, mode, Mark::kDashed, Mark::kRings, chart);
  return {mode + "-speed", std::move(chart), mode + " scaling"};
}

std::vector<Part> speed_comparison(const StudyFiles& a, const StudyFiles& b, const Names& names) {
  if (!a.speed || !b.speed) return {};
  const auto pairs = speed_pairs(speed_cells(*a.speed), speed_cells(*b.speed));
  if (pairs.empty())
    return {Heading{"Speed"}, Paragraph{"No cell was measured in both studies.", Tone::kWarning}};
  Grid grid{.name = "speed-comparison",
            .columns = {{"cell", Align::kText},
                        {"ranks"},
                        {"tokens/s, " + names.first},
                        {"tokens/s, " + names.second},
                        {"ratio"}},
            .rows = {}};
  for (const auto& pair : pairs) {
    const SpeedCell& cell = pair.first;
    const std::string name =
        fmt::format("{} {} {}, {:.0f} x {:.0f}", cell.family, cell.model, cell.mode,
                    std::isfinite(cell.dp) ? cell.dp : cell.ranks, std::isfinite(cell.sp) ? cell.sp : 1.0);
    grid.rows.push_back({name, fixed(cell.ranks, 0), grouped(cell.tokens_per_s),
                         grouped(pair.second.tokens_per_s), fixed(pair.ratio(), 3)});
  }
  std::vector<Part> parts = {Heading{"Speed"}};
  for (const char* mode : {"strong", "weak"})
    parts.emplace_back(speed_figure(speed_cells(*a.speed), speed_cells(*b.speed), names, mode));
  parts.emplace_back(std::move(grid));
  return parts;
}

std::map<std::string, double> losses_of(const StudyFiles& study) {
  std::map<std::string, double> losses;
  if (study.points)
    for (std::size_t row = 0; row < study.points->rows.size(); ++row)
      losses[study.points->text(row, "run")] = study.points->number(row, "loss");
  return losses;
}

Parting parting_of(const StudyEntry& a, const StudyEntry& b) {
  const fs::path first = a.directory / "metrics.jsonl";
  const fs::path second = b.directory / "metrics.jsonl";
  if (!fs::is_regular_file(first) || !fs::is_regular_file(second)) return {};
  return parting_of(read_metrics(first), read_metrics(second));
}

std::string parted(const Parting& parting) {
  if (parting.compared == 0) return "";
  if (!parting.any) return fmt::format("equal in {} steps", parting.compared);
  return fmt::format("step {}, by {}", parting.any->step, significant(parting.any->difference(), 3));
}

std::vector<Part> loss_comparison(const StudyFiles& a, const StudyFiles& b, const Names& names) {
  const auto first = losses_of(a);
  const auto second = losses_of(b);
  const auto loss = [](const std::map<std::string, double>& losses, const std::string& id) {
    const auto found = losses.find(id);
    return found == losses.end() ? std::nan("") : found->second;
  };
  Grid grid{.name = "loss-comparison",
            .columns = {{"run", Align::kText},
                        {"loss, " + names.first},
                        {"loss, " + names.second},
                        {"difference"},
                        {"train losses part", Align::kText}},
            .rows = {}};
  for (const auto& run : a.runs) {
    const auto other = std::ranges::find(b.runs, run.id, &StudyEntry::id);
    if (other == b.runs.end() || run.role == "speed") continue;
    const double x = loss(first, run.id);
    const double y = loss(second, run.id);
    grid.rows.push_back({run.name.empty() ? run.id : run.name, fixed(x, 4), fixed(y, 4), fixed(y - x, 4),
                         parted(parting_of(run, *other))});
  }
  if (grid.rows.empty()) return {};
  return {Heading{"Loss"}, std::move(grid),
          Paragraph{"Runs of one id: the same settings in both study files. Losses in nats per token."}};
}

Grid only_in_one(const StudyFiles& a, const StudyFiles& b, const Names& names) {
  Grid grid{.name = "only-in-one",
            .columns = {{"run", Align::kText}, {"study", Align::kText}, {"status", Align::kText}},
            .rows = {}};
  const auto add = [&](const StudyFiles& one, const StudyFiles& other, const std::string& name) {
    for (const auto& run : one.runs)
      if (std::ranges::find(other.runs, run.id, &StudyEntry::id) == other.runs.end())
        grid.rows.push_back({run.name.empty() ? run.id : run.name, name, run.status});
  };
  add(a, b, names.first);
  add(b, a, names.second);
  return grid;
}

}  // namespace

std::vector<SpeedPair> speed_pairs(const std::vector<SpeedCell>& first,
                                   const std::vector<SpeedCell>& second) {
  std::vector<SpeedPair> pairs;
  for (const auto& cell : first) {
    const auto found = std::ranges::find_if(second, [&](const SpeedCell& other) {
      return other.measured() && identity(other) == identity(cell);
    });
    if (cell.measured() && found != second.end()) pairs.push_back({cell, *found});
  }
  return pairs;
}

Page compare_studies(const fs::path& first, const fs::path& second) {
  const StudyFiles a = read_study(first);
  const StudyFiles b = read_study(second);
  const Names names = names_of(a, b);
  Page page{.title = names.first + " and " + names.second, .subtitle = "Two studies of Sluice side by side"};
  page.add(ValueTables{{{names.first, {{"study", study_subtitle(a)}, {"program", a.program}}},
                        {names.second, {{"study", study_subtitle(b)}, {"program", b.program}}}}});
  page.append(speed_comparison(a, b, names));
  page.append(loss_comparison(a, b, names));
  Grid lonely = only_in_one(a, b, names);
  if (!lonely.rows.empty()) page.append({Heading{"Runs of one study alone"}, std::move(lonely)});
  return page;
}

}  // namespace sluice::study
