#include "trainer/cli/number.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

namespace sluice::cli {
namespace {

constexpr double kExactIntegers = 9007199254740992.0;  // 2^53: beyond it a double skips whole numbers

template <class Number>
std::optional<Number> parse_all(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string describe_limit(double value) {
  const double exponent = std::log10(value);
  if (value >= 1e4 && exponent == std::floor(exponent)) return fmt::format("10^{}", exponent);
  return format_number(value);
}

}  // namespace

bool Bounds::contains(double value) const {
  const bool above = low_edge == Edge::kIncluded ? value >= low : value > low;
  const bool below = high_edge == Edge::kIncluded ? value <= high : value < high;
  return above && below;
}

std::string describe(const Bounds& bounds) {
  const bool low_in = bounds.low_edge == Edge::kIncluded;
  const bool high_in = bounds.high_edge == Edge::kIncluded;
  const std::string low = describe_limit(bounds.low);
  if (low_in && high_in && std::isfinite(bounds.high)) {
    return fmt::format("{} ... {}", low, describe_limit(bounds.high));
  }
  std::string text = (low_in ? ">= " : "> ") + low;
  if (std::isfinite(bounds.high)) text += (high_in ? " and <= " : " and < ") + describe_limit(bounds.high);
  return text;
}

std::optional<double> parse_number(std::string_view text) {
  const auto value = parse_all<double>(text);
  return value && std::isfinite(*value) ? value : std::nullopt;
}

std::optional<std::int64_t> parse_integer(std::string_view text) {
  if (const auto exact = parse_all<std::int64_t>(text)) return exact;
  const auto value = parse_number(text);
  if (!value || *value != std::floor(*value) || std::abs(*value) > kExactIntegers) return std::nullopt;
  return static_cast<std::int64_t>(*value);
}

std::optional<std::uint64_t> parse_unsigned(std::string_view text) {
  if (const auto exact = parse_all<std::uint64_t>(text)) return exact;
  const auto value = parse_integer(text);
  return value && *value >= 0 ? std::optional(static_cast<std::uint64_t>(*value)) : std::nullopt;
}

std::string format_number(double value) { return fmt::format("{}", value); }

}  // namespace sluice::cli
