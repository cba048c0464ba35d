#pragma once

#include <string>
#include <vector>

#include "trainer/study/fit/fit.h"

namespace sluice::study {

/// Runs of one family at one budget of FLOPs, and the parabola of loss in log N through them (Hoffmann et al.
/// 2022, section 3.2: approach 2).
struct IsoFlop {
  double flops = 0.0;  ///< geometric mean of the group's, which lie within 10 %
  std::string refusal = {};
  std::vector<std::string> warnings = {};  ///< "grid too wide", "grid off-centre": the minimum is biased
  std::vector<double> params = {};
  std::vector<double> loss = {};
  std::array<double, 3> parabola = {0.0, 0.0, 0.0};  ///< loss = [0] + [1] x + [2] x^2, x = log N - log centre
  double centre = 1.0;                               ///< the geometric middle of the grid in N
  Estimate best_params = {};
  double best_loss = 0.0;
  double best_tokens = 0.0;  ///< from the group's mean FLOPs per parameter and token; NaN without tokens
  /// log of the minimum by a cubic over that by the parabola: what the parabola leaves out. NaN with fewer
  /// than five sizes.
  double skew = std::numeric_limits<double>::quiet_NaN();

  [[nodiscard]] double at(double n) const;
};

struct IsoFlops {
  std::string family = {};
  Count count = Count::kAll;
  std::string refusal = {};  ///< no group of four sizes or more at one budget
  std::vector<IsoFlop> groups = {};
  /// Best N and D against C: exponents; where three groups or more have a minimum.
  std::vector<Estimate> exponents = {};
  Law best_params_law = {};  ///< scale[0] / C^exponent[0]: the exponent is negative
};

/// Groups one family's points by FLOPs and fits each. A group is refused with fewer than four sizes, or
/// without a minimum within its grid. One that spans more than a factor of 30 in N, has its minimum in an
/// outer quarter of the grid, or whose cubic puts the minimum elsewhere by more than 5 % and twice its
/// scatter says that it is biased: the parabola takes a lop-sided valley for a symmetric one.
[[nodiscard]] IsoFlops fit_iso_flops(const std::vector<Point>& points, const FitOptions& options);

}  // namespace sluice::study
