#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::cli {

enum class Edge { kIncluded, kExcluded };

/// The range of a numeric setting. An infinite `high` means no upper limit.
struct Bounds {
  double low = 0.0;
  double high = 0.0;
  Edge low_edge = Edge::kIncluded;
  Edge high_edge = Edge::kIncluded;

  [[nodiscard]] bool contains(double value) const;
};

/// "> 0", ">= 0 and < 1", "1 ... 10^9".
[[nodiscard]] std::string describe(const Bounds& bounds);

/// A finite decimal number, the whole text; no locale. nullopt otherwise.
[[nodiscard]] std::optional<double> parse_number(std::string_view text);
/// A whole number; "1e9" and "2.5e3" count as whole (exact up to 2^53), "1.5" does not.
[[nodiscard]] std::optional<std::int64_t> parse_integer(std::string_view text);
[[nodiscard]] std::optional<std::uint64_t> parse_unsigned(std::string_view text);
/// The shortest decimal text that parse_number() reads back to the same bits.
[[nodiscard]] std::string format_number(double value);

}  // namespace sluice::cli
