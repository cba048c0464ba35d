#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "trainer/study/gnuplot_script.h"
#include "trainer/study/page_internal.h"

namespace sluice::study {
namespace {

constexpr double kLetterWidth = 7.2;  // of the legend's font, on the wide side
constexpr double kSwatch = 26.0;
constexpr double kGap = 18.0;
constexpr double kLine = 20.0;
constexpr double kMargin = 12.0;

std::size_t letters(const std::string& text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

std::string swatch(const Series& series, double x, double y) {
  const std::string tint = series.tint > 0 ? fmt::format(" tint{}", std::min(series.tint, kTints - 1)) : "";
  const auto stroke = [&](const char* more) {
    return fmt::format("<path d=\"M{:.0f} {:.0f}h18\" class=\"s-{}{}\" fill=\"none\" stroke-width=\"2\"{}/>",
                       x, y, series.colour, tint, more);
  };
  const auto box = [&](const char* more) {
    return fmt::format("<rect x=\"{:.0f}\" y=\"{:.0f}\" width=\"13\" height=\"12\" class=\"f-{}{}{}\"/>",
                       x + 4, y - 6, series.colour, tint, more);
  };
  const auto circle = [&](const char* fill, const char* kind) {
    return fmt::format("<circle cx=\"{:.0f}\" cy=\"{:.0f}\" r=\"4\" class=\"{}-{}{}\"{}/>", x + 9, y, kind,
                       series.colour, tint, fill);
  };
  switch (series.mark) {
    case Mark::kFaintLine:
      return stroke(" opacity=\"0.4\"");
    case Mark::kDashed:
      return stroke(" stroke-dasharray=\"5 4\"");
    case Mark::kPoints:
    case Mark::kErrorBars:
      return circle("", "f");
    case Mark::kRings:
      return circle(" fill=\"none\" stroke-width=\"1.6\"", "s");
    case Mark::kBand:
      return box(" pale");
    case Mark::kArea:
    case Mark::kBars:
      return box("");
    case Mark::kLine:
      break;
  }
  return stroke("");
}

struct LegendBlock {
  std::string markup;
  double height = 0.0;
};

/// Entries from left to right, in as many lines as they need.
LegendBlock legend_block(const Chart& chart, double width) {
  LegendBlock block;
  double x = kMargin;
  double y = kLine * 0.8;
  for (const auto* series : legend_entries(chart)) {
    const double wanted = kSwatch + kLetterWidth * static_cast<double>(letters(series->label)) + kGap;
    if (x > kMargin && x + wanted > width) {
      x = kMargin;
      y += kLine;
    }
    block.markup += swatch(*series, x, y);
    block.markup +=
        fmt::format("<text x=\"{:.0f}\" y=\"{:.0f}\" font-size=\"13\" class=\"f-ink\">{}</text>\n",
                    x + kSwatch, y + 4.5, escape_html(series->label));
    block.height = y + kLine * 0.6;
    x += wanted;
  }
  return block;
}

}  // namespace

std::string standalone_svg(const Chart& chart, const Drawing& drawing) {
  const Canvas& canvas = kCanvases[0];
  const LegendBlock block = legend_block(chart, canvas.width);
  const double height = canvas.height + block.height;
  const std::string definitions = drawing_definitions();
  const std::size_t defs = definitions.find("<defs>");
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1:.0f}\" viewBox=\"0 0 {0} "
      "{1:.0f}\">\n"
      "<style>{2}text {{ font-family: sans-serif; }}</style>\n",
      canvas.width, height, drawing_style());
  out += definitions.substr(defs, definitions.find("</svg>") - defs);
  out += "\n<rect width=\"100%\" height=\"100%\" style=\"fill: var(--paper)\"/>\n" + block.markup;
  out +=
      fmt::format("<svg y=\"{:.0f}\" width=\"{}\" height=\"{}\"", block.height, canvas.width, canvas.height);
  return out + drawing.wide.substr(std::string_view("<svg").size()) + "</svg>\n";
}

}  // namespace sluice::study
