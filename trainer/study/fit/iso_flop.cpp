#include "trainer/study/fit/iso_flop.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "trainer/study/fit/bootstrap.h"
#include "trainer/study/fit/polynomial.h"
#include "trainer/study/numbers.h"

namespace sluice::study {
namespace {

constexpr double kSameFlops = 1.1;
constexpr std::size_t kLeastSizes = 4;
constexpr double kWide = 30.0;       // N largest over smallest
constexpr double kSkewed = 0.05;     // in log N
constexpr double kOffCentre = 0.25;  // of the grid's length in log N, from its middle

struct Group {
  std::vector<Point> points;
  double log_flops = 0.0;  ///< mean
};

std::vector<Group> groups_of(std::vector<Point> points, Count count) {
  std::erase_if(points, [&](const Point& point) {
    return !std::isfinite(point.flops) || !std::isfinite(point.count(count));
  });
  std::stable_sort(points.begin(), points.end(),
                   [](const Point& a, const Point& b) { return a.flops < b.flops; });
  std::vector<Group> groups;
  for (const auto& point : points) {
    if (groups.empty() || point.flops > kSameFlops * groups.back().points.front().flops)
      groups.emplace_back();
    groups.back().points.push_back(point);
  }
  for (auto& group : groups) {
    for (const auto& point : group.points) group.log_flops += std::log(point.flops);
    group.log_flops /= static_cast<double>(group.points.size());
  }
  return groups;
}

std::size_t sizes_of(const Group& group, Count count) {
  std::set<double> sizes;
  for (const auto& point : group.points) sizes.insert(point.count(count));
  return sizes.size();
}

/// log N less the grid's middle against loss.
struct Valley {
  std::vector<double> x;
  std::vector<double> y;
  double middle = 0.0;
  double half_length = 0.0;
};

Valley valley_of(const std::vector<Point>& points, Count count) {
  Valley valley;
  double low = INFINITY;
  double high = -INFINITY;
  for (const auto& point : points) {
    low = std::min(low, std::log(point.count(count)));
    high = std::max(high, std::log(point.count(count)));
  }
  valley.middle = 0.5 * (low + high);
  valley.half_length = 0.5 * (high - low);
  for (const auto& point : points) {
    valley.x.push_back(std::log(point.count(count)) - valley.middle);
    valley.y.push_back(point.loss);
  }
  return valley;
}

/// Where the parabola of a valley is least; NaN where it has no minimum.
double least_of(const std::vector<double>& parabola) {
  return parabola.size() == 3 && parabola[2] > 0.0 ? -parabola[1] / (2.0 * parabola[2]) : Point::kUnknown;
}

/// Where the cubic of a valley has its minimum; NaN where it has none.
double cubic_least(const std::vector<double>& c) {
  if (c.size() != 4) return Point::kUnknown;
  const double root = c[2] * c[2] - 3.0 * c[1] * c[3];
  if (root < 0.0) return Point::kUnknown;
  // The stationary point with an upward bend; written so that a vanishing cubic term gives the parabola's.
  return -c[1] / (c[2] + std::sqrt(root));
}

void describe_fault(const Valley& valley, double least, std::size_t sizes, IsoFlop& out) {
  if (sizes < kLeastSizes)
    out.refusal =
        fmt::format("too few cells: {} sizes, a parabola and a judgement of it need {}", sizes, kLeastSizes);
  else if (std::isnan(least))
    out.refusal = "no interior minimum: loss does not bend upwards within the grid";
  else if (std::abs(least) > valley.half_length)
    out.refusal = fmt::format("no interior minimum: the parabola is least at N = {}, beyond the {} size",
                              counted(std::exp(valley.middle + least)), least > 0.0 ? "largest" : "smallest");
}

void warn(const Valley& valley, double least, double skew_scatter, IsoFlop& out) {
  const double span = std::exp(2.0 * valley.half_length);
  if (span > kWide)
    out.warnings.push_back(
        fmt::format("biased: the grid is too wide, a factor of {:.3g} in N (at most {:.0f}): far from its "
                    "minimum the valley is no "
                    "parabola",
                    span, kWide));
  if (std::abs(least) > 2.0 * kOffCentre * valley.half_length)
    out.warnings.push_back(fmt::format(
        "biased: the grid is off-centre: its middle is N = {}, the minimum {} lies in an outer quarter",
        counted(out.centre), counted(out.best_params.value)));
  if (std::abs(out.skew) > kSkewed && std::abs(out.skew) > 2.0 * skew_scatter)
    out.warnings.push_back(fmt::format("biased: a cubic is least at {:.0f} % {} N",
                                       100.0 * std::abs(std::expm1(out.skew)),
                                       out.skew > 0.0 ? "more" : "less"));
}

double skew_of(const Valley& valley, std::size_t sizes) {
  if (sizes <= kLeastSizes) return Point::kUnknown;
  return cubic_least(polynomial(valley.x, valley.y, 3)) - least_of(polynomial(valley.x, valley.y, 2));
}

/// The standard deviation of the finite ones.
double scatter_of(const std::vector<double>& values) {
  double sum = 0.0;
  double squares = 0.0;
  double count = 0.0;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    sum += value;
    squares += value * value;
    count += 1.0;
  }
  return count < 2.0 ? 0.0 : std::sqrt(std::max(0.0, (squares - sum * sum / count) / (count - 1.0)));
}

/// One drawing of all groups: the minimum of each in log N, and its skew.
struct Drawn {
  std::vector<double> least;
  std::vector<double> skew;
};

std::vector<Point> drawn_points(const std::vector<Point>& points, const std::vector<double>& weights,
                                std::size_t from) {
  std::vector<Point> out;
  for (std::size_t i = 0; i < points.size(); ++i)
    for (double w = weights[from + i]; w > 0.0; w -= 1.0) out.push_back(points[i]);
  return out;
}

std::vector<Drawn> draw_groups(const std::vector<Group>& groups, const FitOptions& options) {
  std::vector<std::string> units;
  for (const auto& group : groups)
    for (const auto& point : group.points) units.push_back(point.unit);
  UnitDraws draws(units, options.seed);
  std::vector<Drawn> out;
  if (draws.count() < 4) return out;
  for (std::int64_t r = 0; r < options.resamples; ++r) {
    const auto weights = draws.next();
    Drawn drawn;
    std::size_t from = 0;
    for (const auto& group : groups) {
      const Group some{drawn_points(group.points, weights, from), 0.0};
      from += group.points.size();
      const std::size_t sizes = sizes_of(some, options.count);
      const Valley valley = valley_of(some.points, options.count);
      drawn.least.push_back(sizes < 3 ? Point::kUnknown
                                      : valley.middle + least_of(polynomial(valley.x, valley.y, 2)));
      drawn.skew.push_back(skew_of(valley, sizes));
    }
    out.push_back(std::move(drawn));
  }
  return out;
}

/// Of so many parabolas, fitted to all points of `group`.
double spread_of_groups(const Group& group, std::size_t parabolas, double level) {
  std::set<std::string> units;
  for (const auto& point : group.points) units.insert(point.unit);
  return spread_of(static_cast<std::int64_t>(units.size()), static_cast<std::int64_t>(group.points.size()),
                   static_cast<std::int64_t>(3 * parabolas), level);
}

/// exp of the mean of log(C / (N D)); NaN without tokens.
double flops_per_param_token(const Group& group, Count count) {
  double sum = 0.0;
  for (const auto& point : group.points) sum += std::log(point.flops / (point.count(count) * point.tokens));
  return std::exp(sum / static_cast<double>(group.points.size()));
}

IsoFlop fit_group(const Group& group, std::size_t index, const std::vector<Drawn>& draws,
                  const FitOptions& options) {
  const Valley valley = valley_of(group.points, options.count);
  const auto parabola = polynomial(valley.x, valley.y, 2);
  const double least = least_of(parabola);
  const std::size_t sizes = sizes_of(group, options.count);
  IsoFlop out{.flops = std::exp(group.log_flops)};
  out.centre = std::exp(valley.middle);
  for (const auto& point : group.points) {
    out.params.push_back(point.count(options.count));
    out.loss.push_back(point.loss);
  }
  describe_fault(valley, least, sizes, out);
  if (!out.refusal.empty()) return out;
  std::copy(parabola.begin(), parabola.end(), out.parabola.begin());
  out.skew = skew_of(valley, sizes);
  std::vector<double> minima;
  std::vector<double> skews;
  for (const auto& drawn : draws) {
    minima.push_back(std::exp(drawn.least[index]));
    skews.push_back(drawn.skew[index]);
  }
  const double value = std::exp(valley.middle + least);
  out.best_params = {"N", value,
                     interval_of(value, std::move(minima), spread_of_groups(group, 1, options.level),
                                 options.level, Spread::kLogarithm)};
  out.best_loss = out.at(value);
  out.best_tokens = out.flops / (value * flops_per_param_token(group, options.count));
  warn(valley, least, scatter_of(skews), out);
  return out;
}

/// Lines of log N and log D at the minima against log C.
void fit_minima(const std::vector<Group>& groups, const std::vector<Drawn>& draws, const FitOptions& options,
                IsoFlops& iso) {
  std::vector<double> log_c;
  std::vector<double> log_n;
  std::vector<std::size_t> kept;
  Group all;
  for (std::size_t g = 0; g < iso.groups.size(); ++g) {
    if (!iso.groups[g].refusal.empty()) continue;
    kept.push_back(g);
    all.points.insert(all.points.end(), groups[g].points.begin(), groups[g].points.end());
    log_c.push_back(std::log(iso.groups[g].flops));
    log_n.push_back(std::log(iso.groups[g].best_params.value));
  }
  if (kept.size() < 3) return;
  const auto line = polynomial(log_c, log_n, 1);
  std::vector<double> slopes;
  std::vector<double> rests;
  for (const auto& drawn : draws) {
    std::vector<double> y;
    for (const std::size_t g : kept) y.push_back(drawn.least[g]);
    const bool whole = std::all_of(y.begin(), y.end(), [](double value) { return std::isfinite(value); });
    slopes.push_back(whole ? polynomial(log_c, y, 1)[1] : Point::kUnknown);
    rests.push_back(1.0 - slopes.back());
  }
  const double spread = spread_of_groups(all, kept.size(), options.level);
  const auto interval = [&](double value, std::vector<double> values) {
    return interval_of(value, std::move(values), spread, options.level, Spread::kPlain);
  };
  iso.exponents = {{"N ~ C^", line[1], interval(line[1], slopes)},
                   {"D ~ C^", 1.0 - line[1], interval(1.0 - line[1], rests)}};
  iso.best_params_law = {
      .terms = 1, .floor = 0.0, .scale = {std::exp(line[0]), 0.0}, .exponent = {-line[1], 0.0}};
}

}  // namespace

double IsoFlop::at(double n) const {
  const double x = std::log(n / centre);
  return parabola[0] + x * (parabola[1] + x * parabola[2]);
}

IsoFlops fit_iso_flops(const std::vector<Point>& points, const FitOptions& options) {
  IsoFlops iso{.count = options.count};
  if (!points.empty()) iso.family = points.front().family;
  auto groups = groups_of(points, options.count);
  std::erase_if(groups, [&](const Group& group) { return sizes_of(group, options.count) < 3; });
  if (groups.empty()) {
    iso.refusal = "no three sizes were trained at one budget of FLOPs";
    return iso;
  }
  const auto draws = draw_groups(groups, options);
  for (std::size_t g = 0; g < groups.size(); ++g)
    iso.groups.push_back(fit_group(groups[g], g, draws, options));
  fit_minima(groups, draws, options, iso);
  return iso;
}

}  // namespace sluice::study
