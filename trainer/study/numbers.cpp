#include "trainer/study/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace sluice::study {
namespace {

constexpr const char* kNone = "\u2013";

}  // namespace

std::string grouped(double value) {
  if (!std::isfinite(value)) return kNone;
  std::string digits = fmt::format("{:.0f}", value);
  const std::ptrdiff_t sign = digits.starts_with('-') ? 1 : 0;
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > sign; at -= 3)
    digits.insert(static_cast<std::size_t>(at), "\u202F");  // narrow no-break space
  return digits;
}

std::string counted(double value) {
  if (!std::isfinite(value)) return kNone;
  if (value < 1e4) return grouped(value);
  if (value < 1e6) return fmt::format("{:.3g} k", value / 1e3);
  if (value < 1e9) return fmt::format("{:.3g} M", value / 1e6);
  if (value < 1e13) return fmt::format("{:.4g} G", value / 1e9);
  return fmt::format("{:.3g}", value);
}

std::string duration(double seconds) {
  if (!std::isfinite(seconds)) return kNone;
  if (seconds < 1.0) return fmt::format("{:.0f} ms", seconds * 1e3);
  if (seconds < 120.0) return fmt::format("{:.1f} s", seconds);
  const auto minutes = static_cast<std::int64_t>(seconds / 60.0);
  if (minutes < 120) return fmt::format("{} min {:02d} s", minutes, static_cast<std::int64_t>(seconds) % 60);
  return fmt::format("{} h {:02d} min", minutes / 60, minutes % 60);
}

std::string fixed(double value, int digits) {
  return std::isfinite(value) ? fmt::format("{:.{}f}", value, digits) : kNone;
}

std::string significant(double value, int digits) {
  return std::isfinite(value) ? fmt::format("{:.{}g}", value, digits) : kNone;
}

std::string percent(double share, int digits) {
  return std::isfinite(share) ? fmt::format("{:.{}f} %", 100.0 * share, digits) : kNone;
}

std::string exact(double value) { return std::isfinite(value) ? fmt::format("{}", value) : ""; }

std::string plural(std::size_t count, const std::string& noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

double or_zero(double value) { return std::isfinite(value) ? value : 0.0; }

double median_of(std::vector<double> values) {
  std::erase_if(values, [](double value) { return !std::isfinite(value); });
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace sluice::study
