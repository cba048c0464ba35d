#include "trainer/study/axis.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

namespace sluice::study {
namespace {

struct Prefix {
  double divisor;
  const char* letter;
};
constexpr std::array<Prefix, 5> kPrefixes = {{{1e15, "P"}, {1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}}};

struct Extent {
  double low = std::numeric_limits<double>::infinity();
  double high = 0.0;

  void add(const std::vector<double>& values) {
    for (const double value : values) {
      if (!std::isfinite(value) || value <= 0.0) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  [[nodiscard]] AxisRange enclosed(const std::optional<double>& first,
                                   const std::optional<double>& last) const {
    AxisRange range{1.0, 10.0};
    if (high > 0.0) {
      const double room = std::max(std::pow(high / low, 0.04), 1.04);
      range = {low / room, high * room};
    }
    return {first.value_or(range.low), last.value_or(range.high)};
  }
};

/// Whole powers of `base` within the range, every n-th so that they are at most `most`.
std::vector<Tic> power_tics(double base, AxisRange range, int most) {
  const double slack = 1e-9;
  const auto first = static_cast<std::int64_t>(std::ceil(std::log(range.low) / std::log(base) - slack));
  const auto last = static_cast<std::int64_t>(std::floor(std::log(range.high) / std::log(base) + slack));
  const std::int64_t stride = std::max<std::int64_t>(1, (last - first + most) / most);
  std::vector<Tic> tics;
  for (std::int64_t power = first; power <= last; power += stride) {
    const double at = std::pow(base, static_cast<double>(power));
    tics.push_back({at, tic_label(at)});
  }
  return tics;
}

/// `factors` times each power of ten within the range.
std::vector<Tic> factor_tics(AxisRange range, const std::vector<double>& factors) {
  std::vector<Tic> tics;
  const auto first = static_cast<std::int64_t>(std::floor(std::log10(range.low)));
  const auto last = static_cast<std::int64_t>(std::floor(std::log10(range.high)));
  for (std::int64_t power = first; power <= last; ++power)
    for (const double factor : factors) {
      const double at = factor * std::pow(10.0, static_cast<double>(power));
      if (at >= range.low * (1.0 - 1e-9) && at <= range.high * (1.0 + 1e-9))
        tics.push_back({at, tic_label(at)});
    }
  return tics;
}

/// Whether labels, of which `most` fit side by side, do not touch where two places are close.
bool have_room(const std::vector<Tic>& tics, AxisRange range, int most) {
  constexpr double kLeastShare = 0.7;  // of what a label has where all are evenly spaced
  const double least = kLeastShare * std::log(range.high / range.low) / most;
  for (std::size_t i = 1; i < tics.size(); ++i)
    if (std::log(tics[i].at / tics[i - 1].at) < least) return false;
  return true;
}

std::vector<Tic> even_tics(AxisRange range, int most) {
  const double step = tic_step(range.high - range.low, most);
  std::vector<Tic> tics;
  for (double n = std::ceil(range.low / step); n * step <= range.high; ++n)
    tics.push_back({n * step, tic_label(n * step)});
  return tics;
}

}  // namespace

std::string tic_label(double value) {
  const double size = std::abs(value);
  for (const auto& prefix : kPrefixes)
    if (size >= prefix.divisor * (1.0 - 1e-9) && (size >= 1e4 || prefix.divisor > 1e3))
      return fmt::format("{:.4g}{}", value / prefix.divisor, prefix.letter);
  if (size >= 1e-2 || value == 0.0) return fmt::format("{:.4g}", value);
  const double power = std::floor(std::log10(size) + 1e-9);
  return fmt::format("{:.4g}e{:.0f}", value / std::pow(10.0, power), power);
}

double tic_step(double length, int pieces) {
  if (!(length > 0.0)) return 1.0;
  const double least = length / pieces;
  const double power = std::pow(10.0, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= least) return factor * power;
  return 10.0 * power;
}

std::vector<Tic> log_tics(Axis axis, AxisRange range, int most) {
  if (axis == Axis::kLog2) {
    const auto tics = power_tics(2.0, range, most);
    if (tics.size() >= 2) return tics;
  }
  constexpr std::size_t kEnough = 3;
  using Factors = std::vector<double>;
  for (const auto& factors :
       {Factors{1, 2, 3, 4, 5, 6, 8}, Factors{1, 2, 3, 5}, Factors{1, 2, 5}, Factors{1, 3}}) {
    auto tics = factor_tics(range, factors);
    if (tics.size() >= kEnough && static_cast<int>(tics.size()) <= most && have_room(tics, range, most))
      return tics;
  }
  // Even spacing crowds at the upper end: fewer than there is room for at the lower one.
  constexpr double kNearlyEven = 2.5;
  if (range.high < kNearlyEven * range.low) return even_tics(range, most);
  if (range.high < 10.0 * range.low) return even_tics(range, std::max(2, most * 2 / 3));
  return power_tics(10.0, range, most);
}

AxisRange log_x_range(const Chart& chart) {
  Extent extent;
  for (const auto& series : chart.series) extent.add(series.x);
  return extent.enclosed(chart.x_low, chart.x_high);
}

AxisRange log_y_range(const Chart& chart) {
  Extent extent;
  for (const auto& series : chart.series)
    for (const auto* values : {&series.y, &series.y_low, &series.y_high}) extent.add(*values);
  return extent.enclosed(chart.y_low, chart.y_high);
}

}  // namespace sluice::study
