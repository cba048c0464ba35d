#pragma once

#include <string>
#include <vector>

#include "trainer/study/fit/fit.h"

namespace sluice::study {

/// Loss against learning rate of one size, by rising rate: means over the seeds that all rates have (over
/// those of each, if none).
struct RateSweep {
  std::string family = {};
  double params = 0.0;
  double tokens = 0.0;  ///< NaN where the file does not say
  std::vector<double> lr = {};
  std::vector<double> loss = {};
  std::size_t best = 0;   ///< the index of the least loss
  bool interior = false;  ///< the best has a neighbour on both sides
  double optimum =
      0.0;  ///< minimum of the parabola in log LR through the best and its neighbours; else the best
};

/// Every (family, N, D) at which three learning rates or more were run, whatever their use.
[[nodiscard]] std::vector<RateSweep> rate_sweeps(const Points& points);

/// LR(N) for each family with a sweep, of its interior optima (of the longest runs where there are several at
/// a size); refused with the reason where fewer than two sizes have one.
[[nodiscard]] std::vector<Fit> fit_rates(const std::vector<RateSweep>& sweeps, const FitOptions& options);

}  // namespace sluice::study
