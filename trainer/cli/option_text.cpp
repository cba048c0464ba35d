#include <fmt/format.h>

#include "trainer/cli/option_table.h"

namespace sluice::cli {
namespace {

std::string section_of(const OptionRow& row) { return row.key.substr(0, row.key.find('.')); }
std::string name_of(const OptionRow& row) { return row.key.substr(row.key.find('.') + 1); }

const char* resume_text(OnResume on_resume) {
  switch (on_resume) {
    case OnResume::kFree:
      return "free";
    case OnResume::kWarn:
      return "warned about";
    case OnResume::kRefuse:
      return "refused";
    case OnResume::kSchedule:
      return "as the schedule allows";
  }
  return "";
}

/// Calls begin(section) before the first row of each section and each(row) for every row.
template <class Begin, class Each>
void for_each_row(const Begin& begin, const Each& each) {
  std::string section;
  for (const auto& row : option_table()) {
    if (section_of(row) != section) begin(section = section_of(row));
    each(row);
  }
}

/// A vertical bar would end a cell of a Markdown table.
std::string cell(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

}  // namespace

std::string dump_ini(const train::RunOptions& options) {
  std::string text;
  for_each_row(
      [&](const std::string& section) { text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", section); },
      [&](const OptionRow& row) { text += fmt::format("{} = {}\n", name_of(row), row.get(options)); });
  return text;
}

std::string option_help() {
  std::string text;
  for_each_row([&](const std::string& section) { text += fmt::format("\n[{}]\n", section); },
               [&](const OptionRow& row) {
                 text += fmt::format("  --{}  {}; {}{}; default {}\n      {}\n", row.key,
                                     row.type == row.range ? "" : row.type, row.range,
                                     row.unit.empty() ? "" : " " + row.unit, row.default_text, row.help);
               });
  return text;
}

std::string option_reference_markdown() {
  std::string text;
  const auto begin = [&](const std::string& section) {
    text += fmt::format(
        "\n### [{}]\n\n| key | type | range | unit | default | on resume | what it is |\n"
        "|---|---|---|---|---|---|---|\n",
        section);
  };
  for_each_row(begin, [&](const OptionRow& row) {
    text += fmt::format("| `{}` | {} | {} | {} | {} | {} | {} |\n", row.key, cell(row.type), cell(row.range),
                        row.unit, row.default_text, resume_text(row.on_resume), cell(row.help));
  });
  return text;
}

}  // namespace sluice::cli
