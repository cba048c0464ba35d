#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "trainer/study/gnuplot.h"

namespace sluice::study {

/// A size in which charts are drawn.
struct Canvas {
  const char* suffix;
  int width;
  int height;
  int font_px;
  int x_tics;  ///< labels at most, the zero's not counted: as many as do not touch
  int y_tics;
};
inline constexpr std::array<Canvas, 2> kCanvases = {
    {{"wide", 800, 330, 13, 10, 7}, {"narrow", 360, 290, 12, 5, 6}}};

// Colours are drawn as #0000NN and turned into classes afterwards: NN is the series' colour and ten times its
// tint, or one of these.
inline constexpr int kInk = 101;
inline constexpr int kGrid = 102;
inline constexpr int kTints = 5;

/// A word in gnuplot's quotes.
[[nodiscard]] std::string gnuplot_text(std::string_view text);

/// The file that holds a series, as plot_script() names it: columns x, y, y_low, y_high; an empty line where
/// y breaks.
[[nodiscard]] std::string data_name(std::size_t chart, std::size_t series);
[[nodiscard]] std::string data_text(const Series& series);

/// gnuplot's commands that draw chart `index` on a canvas into SUFFIX-INDEX.svg.
[[nodiscard]] std::string plot_script(const Chart& chart, std::size_t index, const Canvas& canvas);

}  // namespace sluice::study
