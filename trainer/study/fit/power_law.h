#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "trainer/study/fit/fit.h"

namespace sluice::study {

/// Which parameters families have in common, where several are fitted at once.
enum class Sharing { kNothing, kExponents };

/// log y = log(e^E + sum over terms t of e^(a_t - k_t (x_t - centre_t))), x in logarithms. Its parameters
/// lie in one flat vector: per family log E (with a floor) and a_t; per family, or once for all, the
/// exponents.
struct PowerModel {
  std::size_t terms = 1;
  Floor floor = Floor::kFitted;
  Sharing sharing = Sharing::kNothing;
  std::size_t families = 1;
  std::array<double, 2> centre = {0.0, 0.0};

  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] std::size_t floor_at(std::size_t family) const;
  [[nodiscard]] std::size_t scale_at(std::size_t term, std::size_t family) const;
  [[nodiscard]] std::size_t exponent_at(std::size_t term, std::size_t family) const;

  /// The law of one family; scales are those of uncentred x.
  [[nodiscard]] Law law(const std::vector<double>& parameters, std::size_t family) const;
  /// The exponent of a parameter. With a floor it is kept within kExponentLow ... kExponentHigh by a
  /// logistic curve in its logarithm; `slope` is its derivative. Without one it is the parameter.
  struct Exponent {
    double value = 0.0;
    double slope = 1.0;
  };
  [[nodiscard]] Exponent exponent(double parameter) const;
  /// The parameter of an exponent.
  [[nodiscard]] double parameter_of(double exponent) const;
};
inline constexpr double kExponentLow = 0.01;
inline constexpr double kExponentHigh = 3.0;

/// A row of a problem: `weight` 0 leaves it out, 2 counts it twice.
struct Observation {
  std::size_t family = 0;
  std::array<double, 2> log_x = {0.0, 0.0};
  double log_y = 0.0;
  double weight = 1.0;
};

/// The model at one set of parameters.
class PowerValues {
 public:
  /// `parameters` must outlive it.
  PowerValues(const PowerModel& model, const double* parameters);

  /// Predicted log y; its derivatives go to `gradient` (model.size() numbers) unless that is nullptr.
  [[nodiscard]] double log_value(const Observation& row, double* gradient = nullptr) const;

 private:
  const PowerModel& model_;
  const double* parameters_;
  std::vector<PowerModel::Exponent> exponents_;  ///< from model.exponent_at(0, 0) on
};

/// The Huber loss of r / huber as half a square: sign(r) sqrt(2 rho), and its derivative in r. Squares of
/// it, summed and halved, are the objective, so that a solver of least squares minimises it.
struct Robust {
  double value = 0.0;
  double slope = 0.0;
};
[[nodiscard]] Robust robust(double residual, double huber);

struct Solution {
  std::vector<double> parameters;
  double objective = 0.0;
};

/// The minimum that `start` leads to; solver.cpp by Ceres, solver_missing.cpp throws train::InputError.
/// Always the same for the same input.
class Solver {
 public:
  Solver(const PowerModel& model, double huber);
  ~Solver();
  Solver(const Solver&) = delete;
  Solver& operator=(const Solver&) = delete;

  [[nodiscard]] Solution minimise(const std::vector<Observation>& rows, const std::vector<double>& start,
                                  std::int64_t iterations);

 private:
  struct Workspace;
  std::unique_ptr<Workspace> workspace_;
};

struct Search {
  Solution best;
  std::int64_t starts = 0;
  std::int64_t agreeing = 0;  ///< starts that led to the best objective, to 0.1 % of it
};
/// Minimises from a grid of exponents, floors and shares of the terms.
[[nodiscard]] Search search(const PowerModel& model, const std::vector<Observation>& rows, double huber);

/// Means of log x over the rows.
[[nodiscard]] std::array<double, 2> centre_of(const std::vector<Observation>& rows);

}  // namespace sluice::study
