#include "trainer/study/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string_view>

#include "trainer/study/csv.h"
#include "trainer/study/numbers.h"
#include "trainer/study/page_internal.h"

namespace sluice::study {
namespace {

bool finite_at(const std::vector<double>& values, std::size_t at) {
  return at < values.size() && std::isfinite(values[at]);
}

std::string cell(const std::vector<double>& values, std::size_t at) {
  return finite_at(values, at) ? exact(values[at]) : "";
}

/// A shown number as other programs read it: without the spaces between its groups, and nothing where it is
/// none.
std::string plain_number(std::string shown) {
  constexpr std::string_view kGroup = "\u202F";
  for (std::size_t at = shown.find(kGroup); at != std::string::npos; at = shown.find(kGroup))
    shown.erase(at, kGroup.size());
  return shown == "\u2013" ? "" : shown;
}

std::string grid_csv(const Grid& grid) {
  Table table;
  for (const auto& column : grid.columns) table.columns.push_back(column.name);
  for (auto row : grid.rows) {
    for (std::size_t c = 0; c < grid.columns.size(); ++c)
      if (grid.columns[c].align == Align::kNumber) row[c] = plain_number(std::move(row[c]));
    table.rows.push_back(std::move(row));
  }
  return csv_text(table);
}

std::string file_url(const std::string& name) {
  std::string out;
  for (const char c : name) out += c == ' ' ? std::string("%20") : std::string(1, c);
  return out;
}

}  // namespace

void Page::append(std::vector<Part> more) {
  parts.insert(parts.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

bool drawable(const Chart& chart) {
  return std::ranges::any_of(chart.series, [](const Series& series) {
    const auto& y = series.mark == Mark::kBand ? series.y_low : series.y;
    for (std::size_t i = 0; i < series.x.size(); ++i)
      if (finite_at(series.x, i) && finite_at(y, i)) return true;
    return false;
  });
}

std::vector<const Series*> legend_entries(const Chart& chart) {
  std::vector<const Series*> entries;
  if (chart.series.size() < 2) return entries;
  for (const auto& series : chart.series) {
    const bool named =
        std::ranges::any_of(entries, [&](const Series* entry) { return entry->label == series.label; });
    if (!series.label.empty() && !named) entries.push_back(&series);
  }
  return entries;
}

std::vector<const Figure*> figures_of(const Page& page) {
  std::vector<const Figure*> figures;
  const auto add = [&](const Figure& one) {
    if (drawable(one.chart)) figures.push_back(&one);
  };
  for (const auto& part : page.parts) {
    if (const auto* one = std::get_if<Figure>(&part)) add(*one);
    if (const auto* pair = std::get_if<Pair>(&part))
      for (const auto& one : pair->figures) add(one);
  }
  return figures;
}

std::string chart_csv(const Chart& chart) {
  const bool bars = std::ranges::any_of(
      chart.series, [](const Series& series) { return !series.y_low.empty() || !series.y_high.empty(); });
  const bool named = !chart.x_names.empty();
  Table table{.columns = {"series", chart.x_label, chart.y_label}, .rows = {}};
  if (bars) table.columns.insert(table.columns.end(), {"low", "high"});
  for (const auto& series : chart.series)
    for (std::size_t i = 0; i < series.x.size(); ++i) {
      const bool has_name =
          named && series.x[i] >= 1.0 && series.x[i] <= static_cast<double>(chart.x_names.size());
      const std::string x =
          has_name ? chart.x_names[static_cast<std::size_t>(series.x[i]) - 1] : cell(series.x, i);
      std::vector<std::string> row = {series.label, x, cell(series.y, i)};
      if (bars) row.insert(row.end(), {cell(series.y_low, i), cell(series.y_high, i)});
      table.rows.push_back(std::move(row));
    }
  return csv_text(table);
}

WrittenPage write_page(const Page& page, const std::string& folder, const std::string& gnuplot) {
  const auto figures = figures_of(page);
  std::vector<Chart> charts;
  for (const auto* one : figures) charts.push_back(one->chart);
  const auto drawings = charts.empty() ? std::vector<Drawing>{} : draw(charts, gnuplot);
  WrittenPage written{.html = html_page(page.title + " — Sluice report", page_body(page, drawings)),
                      .markdown = page_markdown(page, file_url(folder)),
                      .files = {}};
  for (std::size_t f = 0; f < figures.size(); ++f) {
    written.files.push_back({figures[f]->name + ".csv", chart_csv(figures[f]->chart)});
    written.files.push_back({figures[f]->name + ".svg", standalone_svg(figures[f]->chart, drawings[f])});
  }
  for (const auto& part : page.parts)
    if (const auto* grid = std::get_if<Grid>(&part); grid != nullptr && !grid->name.empty())
      written.files.push_back({grid->name + ".csv", grid_csv(*grid)});
  return written;
}

}  // namespace sluice::study
