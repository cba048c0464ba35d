#include <fmt/format.h>

#include <algorithm>

#include "trainer/study/page.h"
#include "trainer/study/page_internal.h"

namespace sluice::study {
namespace {

/// Text on one line, without what Markdown or HTML would read as markup.
std::string plain(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n' || c == '\r') {
      out += ' ';
      continue;
    }
    if (std::string_view("\\`*_[]|#").find(c) != std::string_view::npos) out += '\\';
    if (c == '<') {
      out += "&lt;";
    } else if (c == '&') {
      out += "&amp;";
    } else {
      out += c;
    }
  }
  return out;
}

/// A fence longer than any run of backquotes inside.
std::string fence_for(const std::string& text) {
  std::size_t longest = 0;
  std::size_t run = 0;
  for (const char c : text) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  return std::string(std::max<std::size_t>(3, longest + 1), '`');
}

Grid as_grid(const std::vector<Row>& rows, const std::string& title) {
  Grid grid{.name = "", .columns = {{title, Align::kText}, {"", Align::kText}}, .rows = {}};
  for (const auto& row : rows) grid.rows.push_back({row.name, row.value});
  return grid;
}

class MarkdownWriter {
 public:
  explicit MarkdownWriter(std::string folder) : folder_(std::move(folder)) {}

  std::string operator()(const Heading& heading) const {
    return fmt::format("{} {}\n\n", std::string(static_cast<std::size_t>(heading.level), '#'),
                       plain(heading.text));
  }
  std::string operator()(const Paragraph& paragraph) const {
    const std::string text = plain(paragraph.text);
    return (paragraph.tone == Tone::kWarning ? "**" + text + "**" : text) + "\n\n";
  }
  std::string operator()(const KeyNumbers& key) const {
    Grid grid{
        .name = "", .columns = {{"", Align::kText}, {"", Align::kNumber}, {"", Align::kText}}, .rows = {}};
    for (const auto& number : key.numbers) grid.rows.push_back({number.name, number.value, number.note});
    return markdown_table(grid);
  }
  std::string operator()(const Grid& grid) const { return markdown_table(grid); }
  std::string operator()(const Figure& one) const { return titled(one, 3); }
  std::string operator()(const Pair& pair) const {
    std::string out;
    for (const auto& one : pair.figures) out += titled(one, pair.level);
    return out;
  }
  std::string operator()(const ValueTables& values) const {
    std::string out;
    for (const auto& table : values.tables)
      if (!table.rows.empty()) out += markdown_table(as_grid(table.rows, table.title));
    return out;
  }
  std::string operator()(const Preformatted& block) const {
    const std::string fence = fence_for(block.text);
    const bool ended = block.text.ends_with('\n');
    return fmt::format("{0}\n{1}{2}{0}\n\n", fence, block.text, ended ? "" : "\n");
  }

 private:
  std::string titled(const Figure& one, int level) const {
    if (!drawable(one.chart)) return "";
    const std::string title = one.title.empty() ? "" : (*this)(Heading{one.title, level});
    return fmt::format("{0}![{1} against {2}]({3}/{4}.svg)\n\nData: [{4}.csv]({3}/{4}.csv)\n\n", title,
                       plain(one.chart.y_label), plain(one.chart.x_label), folder_, one.name);
  }
  std::string folder_;
};

}  // namespace

std::string markdown_table(const Grid& grid) {
  std::string head;
  std::string rule;
  for (const auto& column : grid.columns) {
    head += "| " + plain(column.name) + " ";
    rule += column.align == Align::kNumber ? "|---:" : "|---";
  }
  std::string out = head + "|\n" + rule + "|\n";
  for (const auto& row : grid.rows) {
    for (std::size_t c = 0; c < grid.columns.size(); ++c) out += "| " + plain(row.at(c)) + " ";
    out += "|\n";
  }
  return out + "\n";
}

std::string page_markdown(const Page& page, const std::string& folder) {
  std::string out = "# " + plain(page.title) + "\n\n";
  if (!page.subtitle.empty()) out += plain(page.subtitle) + "\n\n";
  const MarkdownWriter writer(folder);
  for (const auto& part : page.parts) out += std::visit(writer, part);
  return out;
}

}  // namespace sluice::study
