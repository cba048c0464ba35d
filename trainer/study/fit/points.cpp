#include "trainer/study/fit/points.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

struct NumberColumn {
  const char* name;
  double Point::*member;
};
constexpr NumberColumn kNumbers[] = {{"params", &Point::params},
                                     {"params_no_embedding", &Point::params_no_embedding},
                                     {"params_no_spatial", &Point::params_no_spatial},
                                     {"tokens", &Point::tokens},
                                     {"unique_tokens", &Point::unique_tokens},
                                     {"epochs", &Point::epochs},
                                     {"flops", &Point::flops},
                                     {"loss", &Point::loss},
                                     {"lr", &Point::lr}};

struct TextColumn {
  const char* name;
  std::string Point::*member;
};
constexpr TextColumn kTexts[] = {{"family", &Point::family},
                                 {"seed", &Point::seed},
                                 {"trunk", &Point::trunk},
                                 {"run", &Point::run},
                                 {"use", &Point::use}};

bool enters(const Point& point) { return point.use.empty() || point.use == "fit"; }

std::string unit_of(const Point& point, std::size_t row) {
  if (!point.trunk.empty()) return "trunk " + point.trunk + " seed " + point.seed;
  if (!point.run.empty()) return "run " + point.run + " seed " + point.seed;
  return fmt::format("row {}", row);
}

Point point_of(const Table& table, std::size_t row, std::vector<std::string>& faults) {
  Point point;
  for (const auto& column : kTexts) point.*column.member = table.text(row, column.name);
  for (const auto& column : kNumbers) {
    try {
      point.*column.member = table.number(row, column.name);
      if (point.*column.member <= 0.0)
        faults.push_back(fmt::format("{}: {} is not positive", table.place(row, column.name),
                                     table.text(row, column.name)));
    } catch (const train::InputError& error) {
      faults.insert(faults.end(), error.faults().begin(), error.faults().end());
    }
  }
  if (enters(point) && table.has("loss") && table.text(row, "loss").empty())
    faults.push_back(fmt::format("{}: is empty, but the row's use is '{}': it would enter fits",
                                 table.place(row, "loss"), point.use));
  point.unit = unit_of(point, row);
  return point;
}

void check_columns(const Table& table, std::vector<std::string>& faults) {
  std::string found;
  for (const auto& column : table.columns) found += (found.empty() ? "" : ", ") + column;
  if (!table.has("loss"))
    faults.push_back(fmt::format("{}: has no column loss; its columns are {}", table.source, found));
  if (!table.has("params") && !table.has("tokens") && !table.has("flops"))
    faults.push_back(fmt::format("{}: has none of the columns params, tokens, flops; its columns are {}",
                                 table.source, found));
}

}  // namespace

std::string family_name(const std::string& family) { return family.empty() ? "all" : family; }

const char* name_of(Count count) {
  switch (count) {
    case Count::kAll:
      return "N";
    case Count::kNoEmbedding:
      return "N without embeddings";
    case Count::kNoSpatial:
      return "N without spatial weights";
  }
  return "";
}

double Point::count(Count which) const {
  switch (which) {
    case Count::kAll:
      return params;
    case Count::kNoEmbedding:
      return params_no_embedding;
    case Count::kNoSpatial:
      return params_no_spatial;
  }
  return kUnknown;
}

bool Point::above_one_epoch() const { return epochs > 1.0 || tokens > unique_tokens; }

std::vector<std::string> Points::families() const {
  std::vector<std::string> names;
  for (const auto* list : {&points, &left_out})
    for (const auto& point : *list)
      if (std::find(names.begin(), names.end(), point.family) == names.end()) names.push_back(point.family);
  return names;
}

std::vector<Point> Points::of(const std::string& family) const {
  std::vector<Point> out;
  std::copy_if(points.begin(), points.end(), std::back_inserter(out),
               [&](const Point& point) { return point.family == family; });
  return out;
}

Points points_of(const Table& table) {
  std::vector<std::string> faults;
  check_columns(table, faults);
  Points points{.source = table.source, .points = {}, .left_out = {}};
  for (std::size_t row = 0; row < table.rows.size(); ++row) {
    const Point point = point_of(table, row, faults);
    (enters(point) ? points.points : points.left_out).push_back(point);
  }
  if (faults.empty() && points.points.empty())
    faults.push_back(fmt::format("{}: no row enters fits: {} rows, of which none has use '' or 'fit'",
                                 table.source, table.rows.size()));
  if (!faults.empty()) throw train::InputError(faults);
  return points;
}

Points read_points(const std::filesystem::path& file) { return points_of(read_csv(file)); }

}  // namespace sluice::study
