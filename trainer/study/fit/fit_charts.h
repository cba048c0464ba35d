#pragma once

#include <string>
#include <vector>

#include "trainer/study/fit/analysis.h"
#include "trainer/study/page.h"

// Charts of fits; their names, which are those of the CSVs, begin with "fit-".

namespace sluice::study {

/// Rows, law and its band of intervals, for one form and count in all families; rows left out of a slice or
/// frontier are faint.
[[nodiscard]] Figure fit_figure(const Analysis& analysis, Form form, Count count);
/// log(measured / predicted) in per cent against predicted loss, of carried fits of a form.
[[nodiscard]] Figure residual_figure(const Analysis& analysis, Form form, Count count);
/// L(N, D) of one family: loss against D, a line for each size, of more than eight for eight of
/// them.
[[nodiscard]] Figure surface_figure(const Fit& fit);
/// A family's parabolas, and their minima.
[[nodiscard]] Figure iso_flop_figure(const IsoFlops& iso);
/// Loss against learning rate, a line for each size of a family.
[[nodiscard]] Figure sweep_figure(const std::vector<RateSweep>& sweeps, const std::string& family);
/// LR(N) and the optima that it goes through, all families.
[[nodiscard]] Figure rate_figure(const Analysis& analysis);

}  // namespace sluice::study
