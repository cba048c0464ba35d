#include "trainer/cli/page_text.h"

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <variant>

namespace sluice::cli {
namespace {

/// Characters that a text takes on a terminal: bytes that do not continue a UTF-8 sequence.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

std::string padded(const std::string& text, std::size_t width, study::Align align) {
  const std::string space(width - std::min(width, width_of(text)), ' ');
  return align == study::Align::kNumber ? space + text : text + space;
}

std::string line_of(const std::vector<std::string>& cells, const std::vector<std::size_t>& widths,
                    const std::vector<study::Column>& columns) {
  std::string line;
  for (std::size_t c = 0; c < cells.size(); ++c) line += "  " + padded(cells[c], widths[c], columns[c].align);
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

std::string table_text(const study::Grid& grid) {
  std::vector<std::string> names;
  std::vector<std::size_t> widths;
  for (const auto& column : grid.columns) {
    names.push_back(column.name);
    widths.push_back(width_of(column.name));
  }
  for (const auto& row : grid.rows)
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], width_of(row[c]));
  std::string text = line_of(names, widths, grid.columns);
  for (const auto& row : grid.rows) text += line_of(row, widths, grid.columns);
  return text;
}

std::string part_text(const study::Part& part) {
  return std::visit(
      [](const auto& one) -> std::string {
        using Kind = std::decay_t<decltype(one)>;
        if constexpr (std::is_same_v<Kind, study::Heading>) return "\n" + one.text + "\n";
        if constexpr (std::is_same_v<Kind, study::Paragraph>) return one.text + "\n";
        if constexpr (std::is_same_v<Kind, study::Grid>) return table_text(one);
        return "";
      },
      part);
}

}  // namespace

std::string page_text(const std::vector<study::Part>& parts) {
  std::string text;
  for (const auto& part : parts) text += part_text(part);
  text.erase(0, text.find_first_not_of('\n'));
  return text;
}

}  // namespace sluice::cli
