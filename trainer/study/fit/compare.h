#pragma once

#include <string>
#include <vector>

#include "trainer/study/fit/fit.h"

namespace sluice::study {

/// How much more one family needs of N, D or C for the same loss.
struct Multiplier {
  double loss = 0.0;
  Estimate ratio = {};  ///< second family's over first family's
};

/// Two families by the same form of one variable.
struct Comparison {
  Form form = Form::kCompute;
  Floor floor = Floor::kFitted;
  Count count = Count::kAll;
  std::string first = {};
  std::string second = {};
  std::string refusal = {};
  std::vector<std::string> warnings = {};
  Law first_law = {};
  Law second_law = {};
  Estimate exponent_difference = {};  ///< second's minus first's
  Estimate shared_exponent = {};
  double separate_objective = 0.0;
  double shared_objective = 0.0;
  std::vector<Multiplier> multipliers =
      {};                           ///< at the ends and the middle of the losses that both families reached
  Estimate shared_multiplier = {};  ///< at the middle, with one exponent for both
  /// Where both laws meet; NaN where they do not within a factor of 1000 around the data.
  Estimate crossover = {};
  bool crossover_measured = false;  ///< within the range that both families cover
  double meeting_share = 0.0;       ///< of the draws that meet at all
};

/// Compares by options.form (one of kParams, kTokens, kCompute). Each family's units are drawn apart.
[[nodiscard]] Comparison compare(const std::vector<Point>& first, const std::vector<Point>& second,
                                 const FitOptions& options);

}  // namespace sluice::study
