#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <random>
#include <string>
#include <vector>

#include "trainer/study/fit/fit.h"

// Points whose law is known.

namespace sluice::study {

/// Normal numbers that are the same with every standard library (Box and Muller).
class Noise {
 public:
  Noise(std::uint64_t seed, double size) : random_(seed), size_(size) {}

  double next() {
    const auto uniform = [&] { return (static_cast<double>(random_() >> 11U) + 0.5) * 0x1p-53; };
    const double radius = std::sqrt(-2.0 * std::log(uniform()));
    return size_ * radius * std::cos(2.0 * std::numbers::pi * uniform());
  }

 private:
  std::mt19937_64 random_;
  double size_;
};

/// Geometric: `count` numbers from low to high.
inline std::vector<double> ladder(double low, double high, int count) {
  std::vector<double> out;
  for (int i = 0; i < count; ++i) out.push_back(low * std::pow(high / low, i / (count - 1.0)));
  return out;
}

/// The parametric fit of Hoffmann et al. 2022 (arXiv 2203.15556).
inline Law chinchilla() {
  return {.terms = 2, .floor = 1.69, .scale = {406.4, 410.7}, .exponent = {0.34, 0.28}};
}

inline Point point(const std::string& family, double params, double tokens, double loss,
                   const std::string& unit) {
  return {.family = family,
          .params = params,
          .tokens = tokens,
          .flops = 6.0 * params * tokens,
          .loss = loss,
          .unit = unit};
}

/// Every size at every budget, once.
inline std::vector<Point> grid(const Law& law, const std::vector<double>& sizes,
                               const std::vector<double>& budgets) {
  std::vector<Point> points;
  for (const double n : sizes)
    for (const double d : budgets)
      points.push_back(point("", n, d, law.at(n, d), std::to_string(points.size())));
  return points;
}

}  // namespace sluice::study
