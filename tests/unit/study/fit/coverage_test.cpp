#include <gtest/gtest.h>

#include <array>

#include "tests/unit/study/fit/synthetic.h"
#include "trainer/study/fit/fit.h"

// How often 95 % intervals hold the truth, over 400 fixed draws of noise.

namespace sluice::study {
namespace {

constexpr int kDraws = 400;

bool holds(const Estimate& estimate, double truth) {
  return estimate.interval.low <= truth && truth <= estimate.interval.high;
}

TEST(Coverage, LossOfSizeAlone) {
  const Law truth{.terms = 1, .floor = 1.7, .scale = {400.0}, .exponent = {0.34}};
  std::array<int, 3> covered = {0, 0, 0};
  int refused = 0;
  for (int draw = 0; draw < kDraws; ++draw) {
    Noise noise(static_cast<std::uint64_t>(draw), 0.003);
    std::vector<Point> points;
    for (const double n : ladder(1e6, 1e9, 8))
      for (int seed = 0; seed < 3; ++seed)
        points.push_back(point("", n, 1e10, truth.at(n) * std::exp(noise.next()), std::to_string(points.size())));
    const Fit fit = fit_loss(points, {.form = Form::kParams, .resamples = 200, .seed = static_cast<std::uint64_t>(draw)});
    if (!fit.carried()) {
      ++refused;
      continue;
    }
    covered[0] += holds(fit.parameters[0], truth.floor) ? 1 : 0;
    covered[1] += holds(fit.parameters[1], truth.scale[0]) ? 1 : 0;
    covered[2] += holds(fit.parameters[2], truth.exponent[0]) ? 1 : 0;
  }
  printf("refused %d E %d A %d a %d\n", refused, covered[0], covered[1], covered[2]);
}

TEST(Coverage, LossOfSizeAndTokensFromBranchesOfTrunks) {
  const Law truth = chinchilla();
  std::array<int, 6> covered = {};
  int refused = 0;
  for (int draw = 0; draw < kDraws; ++draw) {
    Noise noise(static_cast<std::uint64_t>(draw), 1.0);
    std::vector<Point> points;
    for (const double n : ladder(1e7, 1e9, 5))
      for (int seed = 0; seed < 2; ++seed) {
        const double common = 0.003 * noise.next();
        for (const double d : ladder(1e9, 3e10, 5))
          points.push_back(point("", n, d, truth.at(n, d) * std::exp(common + 0.001 * noise.next()), std::to_string(n) + std::to_string(seed)));
      }
    const Fit fit = fit_loss(points, {.form = Form::kParamsTokens, .resamples = 200, .seed = static_cast<std::uint64_t>(draw)});
    if (!fit.carried()) {
      ++refused;
      continue;
    }
    covered[0] += holds(fit.parameters[0], truth.floor) ? 1 : 0;
    covered[1] += holds(fit.parameters[1], truth.scale[0]) ? 1 : 0;
    covered[2] += holds(fit.parameters[2], truth.exponent[0]) ? 1 : 0;
    covered[3] += holds(fit.parameters[3], truth.scale[1]) ? 1 : 0;
    covered[4] += holds(fit.parameters[4], truth.exponent[1]) ? 1 : 0;
    covered[5] += holds(fit.derived[0], 0.28 / 0.62) ? 1 : 0;
  }
  printf("refused %d", refused);
  for (const int c : covered) printf(" %d", c);
  printf("\n");
}

}  // namespace
}  // namespace sluice::study
