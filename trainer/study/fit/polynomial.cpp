#include "trainer/study/fit/polynomial.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace sluice::study {
namespace {

/// Monomials of one x made orthogonal to those before (Gram and Schmidt), coefficient by coefficient.
struct Basis {
  std::vector<double> values;        ///< at every x
  std::vector<double> coefficients;  ///< as a polynomial
};

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

void subtract(std::vector<double>& from, double factor, const std::vector<double>& what) {
  for (std::size_t i = 0; i < what.size(); ++i) from[i] -= factor * what[i];
}

}  // namespace

std::vector<double> polynomial(const std::vector<double>& x, const std::vector<double>& y,
                               std::size_t degree) {
  if (std::set<double>(x.begin(), x.end()).size() <= degree) return {};
  std::vector<Basis> bases;
  std::vector<double> rest = y;
  std::vector<double> result(degree + 1, 0.0);
  for (std::size_t d = 0; d <= degree; ++d) {
    Basis basis{{}, std::vector<double>(degree + 1, 0.0)};
    basis.coefficients[d] = 1.0;
    for (const double one : x) basis.values.push_back(std::pow(one, static_cast<double>(d)));
    for (const auto& before : bases) {
      const double part = dot(basis.values, before.values) / dot(before.values, before.values);
      subtract(basis.values, part, before.values);
      subtract(basis.coefficients, part, before.coefficients);
    }
    const double part = dot(rest, basis.values) / dot(basis.values, basis.values);
    subtract(rest, part, basis.values);
    subtract(result, -part, basis.coefficients);
    bases.push_back(std::move(basis));
  }
  return result;
}

double lowest_of_three(const std::array<double, 3>& values, const std::array<double, 3>& losses) {
  const double middle = values[1];
  const auto c = polynomial({std::log(values[0] / middle), 0.0, std::log(values[2] / middle)},
                            {losses[0], losses[1], losses[2]}, 2);
  if (c.empty() || !std::isfinite(c[1]) || !std::isfinite(c[2]) || c[2] <= 0.0) return middle;
  return middle * std::exp(-c[1] / (2.0 * c[2]));
}

}  // namespace sluice::study
