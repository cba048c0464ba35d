#pragma once

#include <filesystem>
#include <string>

namespace sluice::study {

struct ReportOptions {
  std::string gnuplot = "gnuplot";  ///< the program that draws the charts
};

/// A run directory as one self-contained HTML page: final numbers, loss against tokens, tokens/s, where the
/// time went, learning rate and gradient norm, a sample (sample.txt), the evaluation (eval.json), settings
/// and build (resolved.ini). Of these metrics.jsonl alone must be there. Throws train::InputError
/// for a directory that is no run or has logged nothing yet.
[[nodiscard]] std::string report_html(const std::filesystem::path& run, const ReportOptions& options = {});

}  // namespace sluice::study
