#pragma once

#include <vector>

#include "trainer/study/fit/compare.h"
#include "trainer/study/fit/fit.h"
#include "trainer/study/fit/iso_flop.h"
#include "trainer/study/fit/rates.h"

namespace sluice::study {

/// All that a points file says: every form that its columns allow, for every family.
struct Analysis {
  Points points = {};
  /// L(N), L(D), L(N, D), L(C); in each count of N; refused ones too. Where a law with E is refused, or has
  /// fewer than two cells to spare, the law without E follows it.
  std::vector<Fit> fits = {};
  std::vector<IsoFlops> iso_flops = {};      ///< of families with such groups, in each count of N
  std::vector<Comparison> comparisons = {};  ///< of every pair of families; likewise without E
  std::vector<RateSweep> rate_sweeps = {};   ///< sizes at which several learning rates were run
  std::vector<Fit> rates = {};               ///< LR(N) of families with two interior optima or more
};

struct AnalysisOptions {
  double huber = 1e-3;
  std::int64_t resamples = 1000;
  std::uint64_t seed = 1;
  double level = 0.95;
};

[[nodiscard]] Analysis analyse(Points points, const AnalysisOptions& options = {});

}  // namespace sluice::study
