#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trainer/study/metrics_file.h"
#include "trainer/study/page.h"

// Loss curves of several runs in one chart: by tokens, by FLOPs, by time.

namespace sluice::study {

/// One run's smoothed train loss, thinned to what a chart of many can show, against everything that it spent.
struct RunCurve {
  std::string label;
  int colour = 1;
  int tint = 0;
  std::vector<double> tokens;
  std::vector<double> flops;    ///< useful training FLOPs so far; NaN where the run does not say
  std::vector<double> seconds;  ///< of steps so far, without evaluations and checkpoints
  std::vector<double> loss;     ///< nats per token
  std::vector<double> valid_tokens;
  std::vector<double> valid_loss;
};

/// `seconds_before`: of the steps that another run took for it, up to where it branched off.
[[nodiscard]] RunCurve run_curve(const Metrics& metrics, std::string label, double seconds_before = 0.0);

/// Seconds of all steps up to and with `step`.
[[nodiscard]] double seconds_until(const Metrics& metrics, std::int64_t step);

/// Somebody else's curve: loss against tokens.
struct Overlay {
  std::string label;
  std::vector<double> tokens;
  std::vector<double> loss;
};
/// Reads a CSV with the columns tokens and loss (others are passed over); its label is the file's name
/// without the ending. Throws train::InputError for a file that cannot be read, lacks one of them, has a
/// field that is no number, or no row.
[[nodiscard]] Overlay read_overlay(const std::filesystem::path& file);

/// The charts that have something to show: "loss-tokens" (with the overlays), "loss-flops", "loss-time". All
/// axes are logarithmic. Runs of one label share its entry in the legend.
[[nodiscard]] std::vector<Part> curve_parts(const std::vector<RunCurve>& curves,
                                            const std::vector<Overlay>& overlays);

/// The overlays as series of a chart whose x is tokens divided by `divisor`; colours after `colours_used`
/// others.
[[nodiscard]] std::vector<Series> overlay_series(const std::vector<Overlay>& overlays, double divisor,
                                                 int colours_used);

}  // namespace sluice::study
