#pragma once

#include <optional>
#include <string>
#include <vector>

namespace sluice::study {

/// How a series is drawn. Points with a NaN break a line and are left out of everything else.
enum class Mark {
  kLine,
  kFaintLine,
  kDashed,     ///< a thin dashed line: ideals, predictions, extrapolations
  kPoints,     ///< filled circles
  kRings,      ///< open circles: what is shown and does not count
  kErrorBars,  ///< filled circles at y with a bar from y_low to y_high
  kBand,       ///< a pale area from y_low to y_high
  kArea,       ///< from zero to y, in the order given: the later one over the earlier one
  kBars  ///< boxes about x from zero to y, in the order given: stacked bars are running sums, tallest first
};

enum class Axis { kLinear, kLog10, kLog2 };

/// Colours that tell series of one chart apart; the sixth is for what stands beside them.
inline constexpr int kSeriesColours = 5;
/// The palest tint that a line is still seen in.
inline constexpr int kPalestTint = 3;

/// One data series. `colour` 1 ... 6: the page's style sheet says which (light and dark). `tint` 0 ... 4: 0
/// is the colour itself, the others are paler and paler (members of one family). y_low and y_high as the mark
/// needs them, of y's length or empty; a band needs no y.
struct Series {
  std::string label = {};
  int colour = 1;
  Mark mark = Mark::kLine;
  std::vector<double> x = {};
  std::vector<double> y = {};
  std::vector<double> y_low = {};
  std::vector<double> y_high = {};
  int tint = 0;
};

/// A chart's data and axis labels (with units). Without ranges: a linear x axis begins at zero and ends with
/// the data, a logarithmic one encloses the data, which must be positive (others are not drawn), and y is
/// chosen by gnuplot. With `x_names` the places x = 1, 2, ... carry these names (bars).
struct Chart {
  std::string x_label = {};
  std::string y_label = {};
  std::optional<double> y_low = {};
  std::optional<double> y_high = {};
  std::vector<Series> series = {};
  Axis x_axis = Axis::kLinear;
  Axis y_axis = Axis::kLinear;
  std::optional<double> x_low = {};
  std::optional<double> x_high = {};
  std::vector<std::string> x_names = {};
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
