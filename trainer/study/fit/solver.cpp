#include <Eigen/Dense>
#include <cmath>
#include <limits>

#include <ceres/tiny_solver.h>

#include "trainer/study/fit/power_law.h"

// Ceres' solver for small dense problems, Levenberg and Marquardt's: it is a header, so the program needs no
// library of Ceres when it runs.

namespace sluice::study {
namespace {

struct Problem {
  using Scalar = double;
  enum { NUM_RESIDUALS = Eigen::Dynamic, NUM_PARAMETERS = Eigen::Dynamic };

  const PowerModel* model;
  const std::vector<Observation>* rows;
  double huber;
  mutable std::vector<double> gradient;

  [[nodiscard]] int NumResiduals() const { return static_cast<int>(rows->size()); }
  [[nodiscard]] int NumParameters() const { return static_cast<int>(model->size()); }

  /// jacobian: rows x parameters, column-major; or nullptr.
  bool operator()(const double* parameters, double* residuals, double* jacobian) const {
    const std::size_t count = rows->size();
    const PowerValues values(*model, parameters);
    for (std::size_t i = 0; i < count; ++i) {
      const Observation& row = (*rows)[i];
      const double weight = std::sqrt(row.weight);
      const double value = values.log_value(row, jacobian == nullptr ? nullptr : gradient.data());
      const Robust one = robust(value - row.log_y, huber);
      residuals[i] = weight * one.value;
      if (jacobian == nullptr) continue;
      for (std::size_t p = 0; p < gradient.size(); ++p)
        jacobian[p * count + i] = weight * one.slope * gradient[p];
    }
    return true;
  }
};

}  // namespace

struct Solver::Workspace {
  PowerModel model;
  double huber;
  ceres::TinySolver<Problem> solver;
};

Solver::Solver(const PowerModel& model, double huber)
    : workspace_(std::make_unique<Workspace>(Workspace{model, huber, {}})) {
  auto& options = workspace_->solver.options;
  options.gradient_tolerance = 1e-11;
  options.parameter_tolerance = 1e-11;
  options.function_tolerance = 1e-12;
}

Solver::~Solver() = default;

Solution Solver::minimise(const std::vector<Observation>& rows, const std::vector<double>& start,
                          std::int64_t iterations) {
  auto& solver = workspace_->solver;
  const Problem problem{&workspace_->model, &rows, workspace_->huber,
                        std::vector<double>(workspace_->model.size())};
  Eigen::VectorXd x =
      Eigen::Map<const Eigen::VectorXd>(start.data(), static_cast<Eigen::Index>(start.size()));
  solver.options.max_num_iterations = static_cast<int>(iterations);
  solver.Solve(problem, &x);
  const double objective = solver.summary.final_cost;
  return {std::vector<double>(x.data(), x.data() + x.size()),
          std::isfinite(objective) ? objective : std::numeric_limits<double>::infinity()};
}

std::string why_no_fits() { return ""; }

}  // namespace sluice::study
