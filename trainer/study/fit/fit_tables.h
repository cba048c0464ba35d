#pragma once

#include <string>
#include <vector>

#include "trainer/study/fit/analysis.h"
#include "trainer/study/page.h"

namespace sluice::study {

/// "0.342 (0.331 to 0.356)".
[[nodiscard]] std::string estimate_text(const Estimate& estimate, int digits = 3);

/// One row for each carried fit of a form: its parameters with intervals.
[[nodiscard]] Grid fit_table(const Analysis& analysis, Form form);
/// The same fits: rows, cells, units, how well the rest predicts the largest; of L(N, D) the best N and D for
/// a C.
[[nodiscard]] Grid judgement_table(const Analysis& analysis, Form form);
[[nodiscard]] Grid iso_flop_table(const Analysis& analysis);
/// Exponents of pairs of families, and where their laws meet.
[[nodiscard]] Grid comparison_table(const Analysis& analysis);
/// How much more N or C the second family of a pair needs for a loss.
[[nodiscard]] Grid multiplier_table(const Analysis& analysis);
[[nodiscard]] Grid rate_table(const Analysis& analysis);
/// Rows of the file that entered no fit, by reason, and those above one epoch.
[[nodiscard]] Grid use_table(const Points& points);
/// Every parameter of every carried fit, as numbers.
[[nodiscard]] Table law_table(const Analysis& analysis);
/// Every row of every carried fit beside its law, as numbers: a CSV for whoever draws it anew.
[[nodiscard]] Table residual_table(const Analysis& analysis);

/// The whole section of a report: tables, charts, refusals, warnings.
[[nodiscard]] std::vector<Part> fit_parts(const Analysis& analysis);
/// The page of `sluice fit`.
[[nodiscard]] Page fit_page(const Analysis& analysis);

}  // namespace sluice::study
