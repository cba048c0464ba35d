#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "trainer/study/fit/fit.h"

namespace sluice::study {

const char* name_of(Form form) {
  switch (form) {
    case Form::kParams:
      return "L(N)";
    case Form::kTokens:
      return "L(D)";
    case Form::kParamsTokens:
      return "L(N, D)";
    case Form::kCompute:
      return "L(C)";
    case Form::kRate:
      return "LR(N)";
  }
  return "";
}

double Law::at(double x, double second) const {
  double value = floor + scale[0] * std::pow(x, -exponent[0]);
  if (terms > 1) value += scale[1] * std::pow(second, -exponent[1]);
  return value;
}

double Law::reaches(double value) const {
  if (value <= floor) return std::numeric_limits<double>::infinity();
  return std::pow((value - floor) / scale[0], -1.0 / exponent[0]);
}

double FitRow::residual() const { return std::log(measured / predicted); }

std::string Fit::formula() const {
  const std::string start = fmt::format("{} = {}", name_of(form), floor == Floor::kFitted ? "E + " : "");
  switch (form) {
    case Form::kTokens:
      return start + "B / D^b";
    case Form::kParamsTokens:
      return start + "A / N^a + B / D^b";
    case Form::kCompute:
      return start + "A / C^a";
    case Form::kParams:
    case Form::kRate:
      break;
  }
  return start + "A / N^a";
}

}  // namespace sluice::study
