#pragma once

#include <optional>
#include <string>
#include <vector>

namespace sluice::study {

enum class Mark { kLine, kFaintLine, kPoints, kArea };

/// One data series. Points with a NaN break a line. `colour` 1 ... 6: the page's style sheet says which
/// (light and dark). Areas are drawn down to zero in the order given, the later one over the earlier one.
struct Series {
  std::string label;
  int colour = 1;
  Mark mark = Mark::kLine;
  std::vector<double> x = {};
  std::vector<double> y = {};
};

/// A chart's data and axis labels (with units). Without ranges gnuplot chooses them.
struct Chart {
  std::string x_label;
  std::string y_label;
  std::optional<double> y_low = {};
  std::optional<double> y_high = {};
  std::vector<Series> series = {};
};

/// One chart as two inline SVG elements: for screens and paper, and for a phone's width (same data, larger
/// type). Colours are classes of the page's style sheet (s-*, f-*, c-*: stroke, fill, colour), so that light
/// and dark need one drawing.
struct Drawing {
  std::string wide;
  std::string narrow;
};

/// Draws all charts with one call of the program gnuplot, in a temporary directory that is removed. Throws
/// train::InputError where gnuplot is missing, and std::runtime_error with gnuplot's own words where it
/// fails.
[[nodiscard]] std::vector<Drawing> draw(const std::vector<Chart>& charts,
                                        const std::string& gnuplot = "gnuplot");

/// Definitions that the drawings refer to: once on the page, before them.
[[nodiscard]] std::string drawing_definitions();

}  // namespace sluice::study
