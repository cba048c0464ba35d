#include "trainer/study/gnuplot_script.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "trainer/study/axis.h"

namespace sluice::study {
namespace {

constexpr int kFaintTint = 3;
constexpr int kBandTint = 4;
constexpr double kBarWidth = 0.6;
constexpr double kLetter = 0.6;  // width of a letter, in font sizes

std::string colour(int code) { return fmt::format("rgb '#0000{:02x}'", code); }

std::string colour(const Series& series, int least_tint = 0) {
  return colour(series.colour + 10 * std::clamp(series.tint, least_tint, kTints - 1));
}

double at_or_nan(const std::vector<double>& values, std::size_t at) {
  return at < values.size() ? values[at] : std::numeric_limits<double>::quiet_NaN();
}

std::string plot_element(const Series& series, const std::string& data) {
  const std::string start = fmt::format("'{}' using ", data);
  switch (series.mark) {
    case Mark::kLine:
      return start + fmt::format("1:2 with lines lc {} lw 2", colour(series));
    case Mark::kFaintLine:
      return start + fmt::format("1:2 with lines lc {} lw 1", colour(series, kFaintTint));
    case Mark::kDashed:
      return start + fmt::format("1:2 with lines lc {} lw 1.5 dt (6,5)", colour(series));
    case Mark::kPoints:
      return start + fmt::format("1:2 with points pt 7 ps 0.65 lc {}", colour(series));
    case Mark::kRings:
      return start + fmt::format("1:2 with points pt 6 ps 0.75 lc {}", colour(series));
    case Mark::kErrorBars:  // gnuplot's own would have a white edge about each point
      return start + fmt::format(
                         "1:3:(0):($4-$3) with vectors nohead lw 1.5 lc {0}, '{1}' using 1:2 with points pt "
                         "7 ps 0.65 lc {0}",
                         colour(series), data);
    case Mark::kBand:
      return start +
             fmt::format("1:3:4 with filledcurves fc {} fs solid noborder", colour(series, kBandTint));
    case Mark::kArea:
      return start + fmt::format("1:2 with filledcurves y1=0 fc {} fs solid noborder", colour(series));
    case Mark::kBars:
      return start + fmt::format("1:2:({}) with boxes fc {} fs solid noborder", kBarWidth, colour(series));
  }
  throw std::invalid_argument(fmt::format("unknown mark {}", static_cast<int>(series.mark)));
}

std::string tic_list(const std::vector<Tic>& tics) {
  std::string list;
  for (const auto& tic : tics)
    list += fmt::format("{}{} {:.10g}", list.empty() ? "" : ", ", gnuplot_text(tic.label), tic.at);
  return "(" + list + ")";
}

/// Names of bars; at an angle where side by side they would touch.
std::string name_tics(const std::vector<std::string>& names, const Canvas& canvas) {
  std::vector<Tic> tics;
  std::size_t longest = 0;
  for (const auto& name : names) {
    tics.push_back({static_cast<double>(tics.size() + 1), name});
    longest = std::max(longest, name.size());
  }
  const double wanted =
      kLetter * canvas.font_px * static_cast<double>(longest + 2) * static_cast<double>(names.size());
  const char* turn = wanted > 0.85 * canvas.width ? " rotate by 40 right" : "";
  return fmt::format("set xtics{} {}\nset xrange [0.4:{}]\n", turn, tic_list(tics),
                     static_cast<double>(names.size()) + 0.6);
}

std::string x_axis(const Chart& chart, const Canvas& canvas) {
  if (!chart.x_names.empty()) return name_tics(chart.x_names, canvas);
  if (chart.x_axis != Axis::kLinear) {
    const AxisRange range = log_x_range(chart);
    return fmt::format("set logscale x {}\nset xtics {}\nset xrange [{:.10g}:{:.10g}]\n",
                       chart.x_axis == Axis::kLog2 ? 2 : 10,
                       tic_list(log_tics(chart.x_axis, range, canvas.x_tics)), range.low, range.high);
  }
  const double low = chart.x_low.value_or(0.0);
  double high = low;
  for (const auto& series : chart.series)
    for (const double x : series.x) high = std::max(high, x);
  high = chart.x_high.value_or(high);
  const std::string end = chart.x_high ? fmt::format("{:.10g}", high) : "*";
  return fmt::format("set xtics {:.10g}\nset xrange [{:.10g}:{}]\nset autoscale xfixmax\n",
                     tic_step(high - low, canvas.x_tics), low, end);
}

std::string y_axis(const Chart& chart, const Canvas& canvas) {
  if (chart.y_axis != Axis::kLinear) {
    const AxisRange range = log_y_range(chart);
    return fmt::format("set logscale y {}\nset ytics {}\nset yrange [{:.10g}:{:.10g}]\n",
                       chart.y_axis == Axis::kLog2 ? 2 : 10,
                       tic_list(log_tics(chart.y_axis, range, canvas.y_tics)), range.low, range.high);
  }
  const auto bound = [](const std::optional<double>& value) {
    return value ? fmt::format("{:.10g}", *value) : std::string("*");
  };
  return fmt::format("set yrange [{}:{}]\n", bound(chart.y_low), bound(chart.y_high));
}

}  // namespace

std::string gnuplot_text(std::string_view text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

std::string data_name(std::size_t chart, std::size_t series) {
  return fmt::format("data-{}-{}", chart, series);
}

std::string data_text(const Series& series) {
  const bool band = series.mark == Mark::kBand;
  std::string text;
  for (std::size_t i = 0; i < series.x.size(); ++i) {
    const double y = at_or_nan(band ? series.y_low : series.y, i);
    if (!std::isfinite(y) || !std::isfinite(series.x[i])) {
      text += '\n';
      continue;
    }
    // A bar that is not known has no length.
    const double low = at_or_nan(series.y_low, i);
    const double high = at_or_nan(series.y_high, i);
    text += fmt::format("{:.10g} {:.10g} {:.10g} {:.10g}\n", series.x[i], y, std::isfinite(low) ? low : y,
                        std::isfinite(high) ? high : y);
  }
  return text;
}

std::string plot_script(const Chart& chart, std::size_t index, const Canvas& canvas) {
  std::string script = fmt::format(
      "reset\nset terminal svg size {},{} dynamic noenhanced font 'sans-serif,{}'\nset output '{}-{}.svg'\n",
      canvas.width, canvas.height, canvas.font_px, canvas.suffix, index);
  script += fmt::format("set border 1 lc {}\nset tics nomirror scale 0.5 textcolor {}\nset ytics scale 0\n",
                        colour(kInk), colour(kInk));
  script += fmt::format("set grid ytics lc {} lt 1 lw 1\nunset key\n", colour(kGrid));
  script += fmt::format("set xlabel {} tc {}\nset ylabel {} tc {}\n", gnuplot_text(chart.x_label),
                        colour(kInk), gnuplot_text(chart.y_label), colour(kInk));
  script += x_axis(chart, canvas) + y_axis(chart, canvas) + "set rmargin 3\n";
  std::string elements;
  for (std::size_t s = 0; s < chart.series.size(); ++s)
    elements += (s == 0 ? "" : ", ") + plot_element(chart.series[s], data_name(index, s));
  return script + "plot " + elements + "\nset output\n";
}

}  // namespace sluice::study
