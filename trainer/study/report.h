#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trainer/study/page.h"
#include "trainer/study/run_curves.h"

namespace sluice::study {

struct ReportOptions {
  std::string gnuplot = "gnuplot";  ///< the program that draws the charts
};

/// A run directory as a page, other programs' curves over its losses: final numbers, loss against tokens,
/// tokens/s, where the time went, learning rate and gradient norm, a sample (sample.txt), the evaluation
/// (eval.json), settings and build (resolved.ini). Of these metrics.jsonl alone must be there. Throws
/// train::InputError for a directory that is no run or has logged nothing yet.
[[nodiscard]] Page run_page(const std::filesystem::path& run, const std::vector<Overlay>& overlays = {});
/// The same as one self-contained HTML document.
[[nodiscard]] std::string report_html(const std::filesystem::path& run, const ReportOptions& options = {});

}  // namespace sluice::study
