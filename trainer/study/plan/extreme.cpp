#include "trainer/study/plan/extreme.h"

#include <algorithm>
#include <cmath>

namespace sluice::study::plan {

double expected_maximum(std::vector<double> samples, double draws) {
  std::ranges::sort(samples);
  const auto count = static_cast<double>(samples.size());
  double sum = 0;
  double below = 0;  // probability that all draws lie at or below the sample before
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const double within = std::pow(static_cast<double>(i + 1) / count, draws);
    sum += samples[i] * (within - below);
    below = within;
  }
  return sum;
}

}  // namespace sluice::study::plan
