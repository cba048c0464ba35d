#include "trainer/study/fit/selection.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace sluice::study {
namespace {

constexpr double kSameTokens = 1.05;  // runs of one budget differ by the steps that it is rounded to

struct Fields {
  double x = Point::kUnknown;
  double second = 1.0;
  double slice = Point::kUnknown;  ///< what must be equal for the form to hold
};

Fields fields_of(const Point& point, const FitOptions& options) {
  switch (options.form) {
    case Form::kParams:
      return {point.count(options.count), 1.0, point.tokens};
    case Form::kTokens:
      return {point.tokens, 1.0, point.count(options.count)};
    case Form::kParamsTokens:
      return {point.count(options.count), point.tokens};
    case Form::kCompute:
      return {point.flops};
    case Form::kRate:
      break;
  }
  return {};
}

std::string missing_columns(const FitOptions& options) {
  switch (options.form) {
    case Form::kTokens:
      return "tokens";
    case Form::kParamsTokens:
      return fmt::format("{} and tokens", name_of(options.count));
    case Form::kCompute:
      return "flops";
    default:
      return name_of(options.count);
  }
}

struct Slice {
  double low = 0.0;
  double high = 0.0;
  std::set<double> xs = {};
};

/// The slice with most different x; of equals the last one, whose key is the largest.
const Slice* best_slice(const std::vector<Slice>& slices) {
  const Slice* best = nullptr;
  for (const auto& slice : slices)
    if (best == nullptr || slice.xs.size() >= best->xs.size()) best = &slice;
  return best;
}

std::vector<Slice> slices_of(std::vector<Fields> fields, double same) {
  std::sort(fields.begin(), fields.end(), [](const Fields& a, const Fields& b) { return a.slice < b.slice; });
  std::vector<Slice> slices;
  for (const auto& one : fields) {
    if (slices.empty() || one.slice > slices.back().low * same) slices.push_back({one.slice, one.slice});
    slices.back().high = one.slice;
    slices.back().xs.insert(one.x);
  }
  return slices;
}

void cut_slice(std::vector<Fields> fields, const FitOptions& options, std::vector<std::size_t>& taken,
               Candidates& out) {
  if (options.form != Form::kParams && options.form != Form::kTokens) return;
  std::vector<Fields> known;
  for (const std::size_t i : taken)
    if (std::isfinite(fields[i].slice)) known.push_back(fields[i]);
  const char* key = options.form == Form::kParams ? "D" : name_of(options.count);
  if (known.empty()) {
    out.note = fmt::format("{} not given", key);
    return;
  }
  const auto slices = slices_of(known, options.form == Form::kParams ? kSameTokens : 1.0);
  const Slice& slice = *best_slice(slices);
  std::erase_if(
      taken, [&](std::size_t i) { return !(fields[i].slice >= slice.low && fields[i].slice <= slice.high); });
  out.note = fmt::format("{} = {:.3g}", key, slice.high);
}

/// Means of log-loss over the rows of each cell of equal C and N, by rising C.
std::map<std::array<double, 2>, double> cell_means(const std::vector<Candidate>& rows,
                                                   const std::vector<double>& weights) {
  std::map<std::array<double, 2>, double> sums;
  std::map<std::array<double, 2>, double> counts;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (weights[i] == 0.0) continue;
    sums[{rows[i].x, rows[i].second}] += weights[i] * std::log(rows[i].loss);
    counts[{rows[i].x, rows[i].second}] += weights[i];
  }
  for (auto& [cell, sum] : sums) sum /= counts[cell];
  return sums;
}

/// Leaves the rows of cells that have less loss than all cells of no more FLOPs.
void keep_frontier(std::vector<Candidate>& rows) {
  const auto means = cell_means(rows, std::vector<double>(rows.size(), 1.0));
  std::erase_if(rows, [&](const Candidate& row) {
    const double own = means.at({row.x, row.second});
    return std::ranges::any_of(means, [&](const auto& other) {
      const bool same = other.first == std::array<double, 2>{row.x, row.second};
      return !same && other.first[0] <= row.x && other.second <= own;
    });
  });
}

}  // namespace

std::vector<std::string> Candidates::units() const {
  std::vector<std::string> out;
  for (const auto& row : rows) out.push_back(row.unit);
  return out;
}

const char* variable_of(Form form) {
  switch (form) {
    case Form::kTokens:
      return "D";
    case Form::kParamsTokens:
      return "pairs of N and D";
    case Form::kCompute:
      return "C on the frontier";
    case Form::kParams:
    case Form::kRate:
      break;
  }
  return "N";
}

Candidates candidates_of(const std::vector<Point>& points, const FitOptions& options) {
  Candidates out;
  std::vector<Fields> fields;
  std::vector<std::size_t> taken;
  for (std::size_t i = 0; i < points.size(); ++i) {
    fields.push_back(fields_of(points[i], options));
    if (std::isfinite(fields[i].x) && std::isfinite(fields[i].second)) taken.push_back(i);
  }
  if (taken.empty()) {
    out.refusal = fmt::format("the points do not say {}", missing_columns(options));
    return out;
  }
  cut_slice(fields, options, taken, out);
  for (const std::size_t i : taken) {
    // Sizes trained at one C are cells of their own.
    const double second = options.form == Form::kCompute && std::isfinite(points[i].params)
                              ? points[i].params
                              : fields[i].second;
    out.rows.push_back({fields[i].x, second, points[i].loss, points[i].unit, points[i].above_one_epoch()});
  }
  if (options.form == Form::kCompute) keep_frontier(out.rows);
  return out;
}

std::vector<Observation> observations(Form form, const std::vector<Candidate>& rows,
                                      const std::vector<double>& weights, std::size_t family) {
  std::vector<Observation> out;
  if (form == Form::kCompute) {
    for (const auto& [cell, mean] : cell_means(rows, weights))
      out.push_back({.family = family, .log_x = {std::log(cell[0]), 0.0}, .log_y = mean});
    return out;
  }
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (weights[i] > 0.0)
      out.push_back({.family = family,
                     .log_x = {std::log(rows[i].x), std::log(rows[i].second)},
                     .log_y = std::log(rows[i].loss),
                     .weight = weights[i]});
  return out;
}

std::vector<Observation> observations(Form form, const std::vector<Candidate>& rows, std::size_t family) {
  return observations(form, rows, std::vector<double>(rows.size(), 1.0), family);
}

Cells cells_of(const std::vector<Observation>& rows, std::size_t family) {
  std::set<std::array<double, 2>> all;
  std::set<double> first;
  std::set<double> second;
  for (const auto& row : rows) {
    if (row.family != family) continue;
    all.insert(row.log_x);
    first.insert(row.log_x[0]);
    second.insert(row.log_x[1]);
  }
  return {all.size(), first.size(), second.size()};
}

std::string too_few(const Cells& cells, Form form, std::size_t parameters, std::size_t spare) {
  const std::size_t need = parameters + spare;
  if (cells.all < need)
    return fmt::format("too few cells: {} different {}, and {} parameters need at least {}", cells.all,
                       variable_of(form), parameters, need);
  if (form == Form::kParamsTokens && std::min(cells.first, cells.second) < 3)
    return fmt::format("too few cells: {} different N and {} different D, each exponent needs at least 3",
                       cells.first, cells.second);
  return "";
}

}  // namespace sluice::study
