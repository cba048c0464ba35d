#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "trainer/cli/option_table.h"

// Builders of rows, one for each type of a setting. Included by option_table*.cpp, and for its bounds by
// cluster_keys.cpp.

namespace sluice::cli::rows {

inline constexpr double kInfinite = std::numeric_limits<double>::infinity();
inline constexpr Bounds kPositive{0, kInfinite, Edge::kExcluded, Edge::kIncluded};
inline constexpr Bounds kNotNegative{0, kInfinite, Edge::kIncluded, Edge::kIncluded};
inline constexpr Bounds kFraction{0, 1};
inline constexpr Bounds kPositiveFraction{0, 1, Edge::kExcluded, Edge::kIncluded};
inline constexpr Bounds kBelowOne{0, 1, Edge::kIncluded, Edge::kExcluded};
inline constexpr Bounds kCadence{0, 1e9};

/// Those of [model].
[[nodiscard]] std::vector<OptionRow> model_rows();

struct About {
  std::string unit;
  std::string help;
  OnResume on_resume = OnResume::kFree;
  std::string default_text;  ///< empty: the member's default
};

/// Why a text cannot be a value, or "": an INI file must be able to hold it.
[[nodiscard]] std::string text_fault(const std::string& value);
/// "must be fp32 or fp64", or "" for one of `choices`.
[[nodiscard]] std::string choice_fault(const std::vector<std::string>& choices, const std::string& value);
/// Two numbers with a comma between them; the fault is empty when both are within bounds.
struct TwoNumbers {
  std::array<double, 2> values{};
  std::string fault;
};
[[nodiscard]] TwoNumbers parse_two(const Bounds& bounds, const std::string& text);

/// Any number of whole numbers, a comma between; empty: none of them.
struct ManyNumbers {
  std::vector<std::int64_t> values{};
  std::string fault;
};
[[nodiscard]] ManyNumbers parse_many(const Bounds& bounds, const std::string& text);

/// A row whose value `get` writes, without a set.
OptionRow row_of(std::string key, std::string type, std::string range, About about,
                 std::function<std::string(const train::RunOptions&)> get);

template <class Section, class Field>
OptionRow base(std::string key, Section train::RunOptions::*section, Field Section::*field, std::string type,
               std::string range, About about) {
  return row_of(std::move(key), std::move(type), std::move(range), std::move(about),
                [section, field](const train::RunOptions& options) {
                  return fmt::format("{}", options.*section.*field);
                });
}

/// Of several numbers in one member, a comma between.
template <class Section, class Field>
OptionRow list(std::string key, Section train::RunOptions::*section, Field Section::*field, std::string type,
               std::string range, About about) {
  return row_of(std::move(key), std::move(type), std::move(range), std::move(about),
                [section, field](const train::RunOptions& options) {
                  return fmt::format("{}", fmt::join(options.*section.*field, ","));
                });
}

template <class Section>
OptionRow integer(std::string key, Section train::RunOptions::*section, std::int64_t Section::*field,
                  Bounds bounds, About about) {
  auto row = base(std::move(key), section, field, "integer", describe(bounds), std::move(about));
  row.bounds = bounds;
  row.set = [section, field, bounds](train::RunOptions& options, const std::string& text) -> std::string {
    const auto value = parse_integer(text);
    if (!value) return "must be a whole number, " + describe(bounds);
    if (!bounds.contains(static_cast<double>(*value))) return "must be " + describe(bounds);
    options.*section.*field = *value;
    return "";
  };
  return row;
}

template <class Section>
OptionRow number(std::string key, Section train::RunOptions::*section, double Section::*field, Bounds bounds,
                 About about) {
  auto row = base(std::move(key), section, field, "float", describe(bounds), std::move(about));
  row.bounds = bounds;
  row.set = [section, field, bounds](train::RunOptions& options, const std::string& text) -> std::string {
    const auto value = parse_number(text);
    if (!value) return "must be a number " + describe(bounds);
    if (!bounds.contains(*value)) return "must be " + describe(bounds);
    options.*section.*field = *value;
    return "";
  };
  return row;
}

template <class Section>
OptionRow numbers(std::string key, Section train::RunOptions::*section, std::array<double, 2> Section::*field,
                  Bounds bounds, About about) {
  auto row = list(std::move(key), section, field, "two floats", describe(bounds) + " each", std::move(about));
  row.bounds = bounds;
  row.set = [section, field, bounds](train::RunOptions& options, const std::string& text) -> std::string {
    const auto parsed = parse_two(bounds, text);
    if (parsed.fault.empty()) options.*section.*field = parsed.values;
    return parsed.fault;
  };
  return row;
}

template <class Section>
OptionRow integers(std::string key, Section train::RunOptions::*section,
                   std::vector<std::int64_t> Section::*field, Bounds bounds, About about) {
  auto row = list(std::move(key), section, field, "integers", describe(bounds) + " each, or empty for none",
                  std::move(about));
  row.set = [section, field, bounds](train::RunOptions& options, const std::string& text) -> std::string {
    auto parsed = parse_many(bounds, text);
    if (parsed.fault.empty()) options.*section.*field = std::move(parsed.values);
    return parsed.fault;
  };
  return row;
}

template <class Section>
OptionRow seed(std::string key, Section train::RunOptions::*section, std::uint64_t Section::*field,
               About about) {
  auto row = base(std::move(key), section, field, "integer", "0 ... 2^64 - 1", std::move(about));
  row.set = [section, field](train::RunOptions& options, const std::string& text) -> std::string {
    const auto value = parse_unsigned(text);
    if (!value) return "must be a whole number, 0 ... 2^64 - 1";
    options.*section.*field = *value;
    return "";
  };
  return row;
}

template <class Section>
OptionRow flag(std::string key, Section train::RunOptions::*section, bool Section::*field, About about) {
  auto row = base(std::move(key), section, field, "true|false", "true, false", std::move(about));
  row.set = [section, field](train::RunOptions& options, const std::string& text) -> std::string {
    if (text != "true" && text != "false") return "must be true or false";
    options.*section.*field = text == "true";
    return "";
  };
  return row;
}

template <class Section>
OptionRow choice(std::string key, Section train::RunOptions::*section, std::string Section::*field,
                 std::vector<std::string> choices, About about) {
  auto row = base(std::move(key), section, field, fmt::format("{}", fmt::join(choices, "|")),
                  fmt::format("{}", fmt::join(choices, ", ")), std::move(about));
  row.set = [section, field, choices](train::RunOptions& options, const std::string& text) {
    auto fault = choice_fault(choices, text);
    if (fault.empty()) options.*section.*field = text;
    return fault;
  };
  return row;
}

template <class Section>
OptionRow text(std::string key, Section train::RunOptions::*section, std::string Section::*field,
               std::string range, About about) {
  auto row = base(std::move(key), section, field, "text", std::move(range), std::move(about));
  row.set = [section, field](train::RunOptions& options, const std::string& value) {
    auto fault = text_fault(value);
    if (fault.empty()) options.*section.*field = value;
    return fault;
  };
  return row;
}

}  // namespace sluice::cli::rows
