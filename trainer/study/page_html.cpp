#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "trainer/study/page.h"
#include "trainer/study/page_internal.h"

namespace sluice::study {
namespace {

const char* mark_class(Mark mark) {
  switch (mark) {
    case Mark::kFaintLine:
      return " class=\"faint\"";
    case Mark::kDashed:
      return " class=\"dashed\"";
    case Mark::kPoints:
    case Mark::kErrorBars:
      return " class=\"dot\"";
    case Mark::kRings:
      return " class=\"ring\"";
    case Mark::kBand:
      return " class=\"area pale\"";
    case Mark::kArea:
    case Mark::kBars:
      return " class=\"area\"";
    case Mark::kLine:
      break;
  }
  return "";
}

const char* tone_class(Tone tone) {
  switch (tone) {
    case Tone::kQuiet:
      return " class=\"quiet\"";
    case Tone::kWarning:
      return " class=\"warning\"";
    case Tone::kPlain:
      break;
  }
  return "";
}

/// A number that breaks neither before its unit ("1.2 M", "2 x 1") nor at its sign: a minus, not a hyphen.
std::string unbroken(const std::string& text) {
  std::string out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const std::size_t end = std::min(text.find(' ', at + 1), text.size());
    if (text[at] == ' ' && end - at <= 2)
      out += "\u00A0";
    else if (text[at] == '-')
      out += "\u2212";
    else
      out += text[at];
  }
  return out;
}

/// Writes each kind of part; takes the drawings in the order of the figures.
class HtmlWriter {
 public:
  explicit HtmlWriter(const std::vector<Drawing>& drawings) : next_(drawings.begin()) {}

  std::string operator()(const Heading& heading) const {
    return fmt::format("<h{0}>{1}</h{0}>\n", heading.level, escape_html(heading.text));
  }
  std::string operator()(const Paragraph& paragraph) const {
    return fmt::format("<p{}>{}</p>\n", tone_class(paragraph.tone), escape_html(paragraph.text));
  }
  std::string operator()(const KeyNumbers& key) const {
    std::string out = "<dl class=\"figures\">\n";
    for (const auto& number : key.numbers)
      out += fmt::format("<div><dt>{}</dt><dd>{}<div class=\"note\">{}</div></dd></div>\n",
                         escape_html(number.name), escape_html(number.value), escape_html(number.note));
    return out + "</dl>\n";
  }
  std::string operator()(const Grid& grid) const { return html_table(grid); }
  std::string operator()(const Figure& one) {
    if (!drawable(one.chart)) return "";
    return titled(one, 3);
  }
  std::string operator()(const Pair& pair) {
    std::string out = "<div class=\"two\">";
    for (const auto& one : pair.figures)
      if (drawable(one.chart)) out += "<section>" + titled(one, pair.level) + "</section>";
    return out + "</div>\n";
  }
  std::string operator()(const ValueTables& values) const {
    std::string out = "<div class=\"tables\">\n";
    for (const auto& table : values.tables) {
      const std::string title = table.title.empty() ? "" : "<h3>" + escape_html(table.title) + "</h3>\n";
      if (!table.rows.empty()) out += "<section>" + title + value_table(table.rows) + "</section>\n";
    }
    return out + "</div>\n";
  }
  std::string operator()(const Preformatted& block) const {
    return "<pre>" + escape_html(block.text) + "</pre>\n";
  }

 private:
  std::string titled(const Figure& one, int level) {
    const std::string title =
        one.title.empty() ? "" : fmt::format("<h{0}>{1}</h{0}>\n", level, escape_html(one.title));
    return title + figure(one.chart, *next_++);
  }
  std::vector<Drawing>::const_iterator next_;
};

}  // namespace

std::string legend(const Chart& chart) {
  const auto entries = legend_entries(chart);
  if (entries.empty()) return "";
  std::string out = "<ul class=\"legend\">\n";
  for (const auto* series : entries) {
    const std::string tint = series->tint > 0 ? fmt::format(" tint{}", std::min(series->tint, 4)) : "";
    out += fmt::format("<li><span class=\"c-{}{}\"><i{}></i></span>{}</li>\n", series->colour, tint,
                       mark_class(series->mark), escape_html(series->label));
  }
  return out + "</ul>\n";
}

std::string figure(const Chart& chart, const Drawing& drawing) {
  return "<figure>\n" + legend(chart) + drawing.wide + drawing.narrow + "</figure>\n";
}

std::string html_table(const Grid& grid) {
  const auto cell = [&](const char* tag, std::size_t column, const std::string& text) {
    const bool number = grid.columns[column].align == Align::kNumber;
    return fmt::format("<{0}{1}>{2}</{0}>", tag, number ? " class=\"number\"" : "", escape_html(text));
  };
  const auto value = [&](std::size_t column, const std::string& text) {
    return cell("td", column, grid.columns[column].align == Align::kNumber ? unbroken(text) : text);
  };
  constexpr std::size_t kManyColumns = 8;  // in smaller type
  const bool wide = grid.columns.size() >= kManyColumns;
  std::string out = fmt::format("<div class=\"scroll\"><table{}>\n<tr>", wide ? " class=\"wide-table\"" : "");
  for (std::size_t c = 0; c < grid.columns.size(); ++c) out += cell("th", c, grid.columns[c].name);
  out += "</tr>\n";
  for (const auto& row : grid.rows) {
    out += "<tr>";
    for (std::size_t c = 0; c < grid.columns.size(); ++c) out += value(c, row.at(c));
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

std::string page_body(const Page& page, const std::vector<Drawing>& drawings) {
  std::string body = "<header><h1>" + escape_html(page.title) + "</h1>\n";
  if (!page.subtitle.empty()) body += "<p class=\"quiet\">" + escape_html(page.subtitle) + "</p>\n";
  body += "</header>\n" + drawing_definitions();
  HtmlWriter writer(drawings);
  for (const auto& part : page.parts) body += std::visit(writer, part);
  return body;
}

}  // namespace sluice::study
