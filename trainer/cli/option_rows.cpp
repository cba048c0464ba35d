#include "trainer/cli/option_rows.h"

#include <algorithm>

#include "trainer/cli/input_text.h"

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

OptionRow row_of(std::string key, std::string type, std::string range, About about,
                 std::function<std::string(const train::RunOptions&)> get) {
  OptionRow row;
  row.key = std::move(key);
  row.type = std::move(type);
  row.range = std::move(range);
  row.unit = std::move(about.unit);
  row.help = std::move(about.help);
  row.on_resume = about.on_resume;
  row.get = std::move(get);
  row.default_text =
      about.default_text.empty() ? row.get(train::RunOptions{}) : std::move(about.default_text);
  return row;
}

ManyNumbers parse_many(const Bounds& bounds, const std::string& text) {
  ManyNumbers parsed;
  for (auto& word : split_at(text, ',')) {
    if (word.starts_with(' ')) word.erase(0, 1);
    const auto value = parse_integer(word);
    if (!value || !bounds.contains(static_cast<double>(*value)))
      return {{}, "must be whole numbers with commas between them, each " + describe(bounds)};
    parsed.values.push_back(*value);
  }
  return parsed;
}

}  // namespace sluice::cli::rows
