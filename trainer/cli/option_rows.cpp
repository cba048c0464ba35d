#include "trainer/cli/option_rows.h"

#include <algorithm>

namespace sluice::cli::rows {

std::string text_fault(const std::string& value) {
  if (value.find('#') != std::string::npos)
    return "must not contain '#', which begins a comment in a settings file";
  const auto is_control = [](char c) { return (c >= 0 && c < ' ') || c == '\x7f'; };
  if (std::any_of(value.begin(), value.end(), is_control)) return "must not contain control characters";
  if (value.starts_with(' ') || value.ends_with(' ')) return "must not begin or end with a space";
  return "";
}

std::string choice_fault(const std::vector<std::string>& choices, const std::string& value) {
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return "";
  return fmt::format("must be {}", fmt::join(choices, " or "));
}

TwoNumbers parse_two(const Bounds& bounds, const std::string& text) {
  const auto comma = text.find(',');
  const std::string second = comma == std::string::npos ? "" : text.substr(comma + 1);
  const auto a = parse_number(text.substr(0, comma));
  const auto b = parse_number(second.starts_with(' ') ? second.substr(1) : second);
  if (!a || !b) return {{}, "must be two numbers with a comma between them, each " + describe(bounds)};
  if (!bounds.contains(*a) || !bounds.contains(*b)) return {{}, "each must be " + describe(bounds)};
  return {{*a, *b}, ""};
}

}  // namespace sluice::cli::rows
