#include "trainer/study/fit/power_law.h"
#include "trainer/train/errors.h"

// In place of solver.cpp where CMake found no Ceres.
namespace sluice::study {

struct Solver::Workspace {};

Solver::Solver(const PowerModel& /*model*/, double /*huber*/) { throw train::InputError(why_no_fits()); }

Solver::~Solver() = default;

Solution Solver::minimise(const std::vector<Observation>& /*rows*/, const std::vector<double>& /*start*/,
                          std::int64_t /*iterations*/) {
  throw train::InputError(why_no_fits());
}

std::string why_no_fits() {
  return "fits need Ceres, which this build is made without: install it (Debian: libceres-dev), then "
         "configure and build "
         "again";
}

}  // namespace sluice::study
