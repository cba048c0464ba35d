#include "trainer/study/fit/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numbers>

namespace sluice::study {
namespace {

constexpr std::int64_t kNormalFrom = 1000;

/// P(|T| <= t) of Student's t: finite sums in the angle.
double central_probability(double t, std::int64_t degrees) {
  const double angle = std::atan(t / std::sqrt(static_cast<double>(degrees)));
  const double cosine = std::cos(angle);
  const double square = cosine * cosine;
  const bool odd = degrees % 2 == 1;
  double term = odd ? cosine : 1.0;
  double sum = degrees == 1 ? 0.0 : term;
  for (std::int64_t k = odd ? 3 : 2; k <= degrees - 2; k += 2) {
    term *= square * static_cast<double>(k - 1) / static_cast<double>(k);
    sum += term;
  }
  if (odd) return 2.0 / std::numbers::pi * (angle + std::sin(angle) * sum);
  return std::sin(angle) * sum;
}

double distribution(double t, std::int64_t degrees) {
  if (degrees >= kNormalFrom) return 0.5 * std::erfc(-t / std::numbers::sqrt2);
  return 0.5 + 0.5 * central_probability(t, degrees);
}

/// Between neighbours linearly; infinite neighbours stay infinite.
double sorted_quantile(const std::vector<double>& sorted, double q) {
  const double place = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const auto above = std::min(below + 1, sorted.size() - 1);
  const double part = place - static_cast<double>(below);
  if (part == 0.0 || sorted[below] == sorted[above]) return sorted[below];
  return sorted[below] + part * (sorted[above] - sorted[below]);
}

}  // namespace

double student_quantile(double q, std::int64_t degrees) {
  if (q == 0.5) return 0.0;
  double low = -1.0;
  double high = 1.0;
  while (distribution(low, degrees) > q) low *= 2.0;
  while (distribution(high, degrees) < q) high *= 2.0;
  for (int i = 0; i < 100; ++i) {
    const double middle = 0.5 * (low + high);
    (distribution(middle, degrees) < q ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

double spread_of(std::int64_t units, std::int64_t rows, std::int64_t parameters, double level) {
  if (units < 2 || rows <= parameters) return std::numeric_limits<double>::infinity();
  const auto g = static_cast<double>(units);
  const auto n = static_cast<double>(rows);
  const double q = 0.5 + 0.5 * level;
  const std::int64_t degrees = std::min(units - 1, rows - parameters);
  return std::sqrt(g / (g - 1.0) * (n - 1.0) / (n - static_cast<double>(parameters))) *
         student_quantile(q, degrees) / student_quantile(q, kNormalFrom);
}

UnitDraws::UnitDraws(const std::vector<std::string>& units, std::uint64_t seed) : random_(seed) {
  std::map<std::string, std::size_t> numbers;
  for (const auto& unit : units)
    unit_of_row_.push_back(numbers.try_emplace(unit, numbers.size()).first->second);
  count_ = numbers.size();
}

std::vector<double> UnitDraws::next() {
  std::vector<double> drawn(count_, 0.0);
  for (std::size_t i = 0; i < count_; ++i) drawn[random_() % count_] += 1.0;
  std::vector<double> weights;
  weights.reserve(unit_of_row_.size());
  for (const std::size_t unit : unit_of_row_) weights.push_back(drawn[unit]);
  return weights;
}

Interval interval_of(double estimate, std::vector<double> draws, double spread, double level, Spread in) {
  const std::size_t all = draws.size();
  std::erase_if(draws, [](double draw) { return std::isnan(draw); });
  if (all == 0 || std::isnan(estimate) || !std::isfinite(spread) || 10 * draws.size() < 9 * all) return {};
  for (double& draw : draws)
    draw = in == Spread::kPlain ? estimate + spread * (draw - estimate)
                                : estimate * std::pow(draw / estimate, spread);
  std::sort(draws.begin(), draws.end());
  return {sorted_quantile(draws, 0.5 - 0.5 * level), sorted_quantile(draws, 0.5 + 0.5 * level)};
}

}  // namespace sluice::study
