#pragma once

#include <string>
#include <vector>

#include "trainer/study/fit/fit.h"
#include "trainer/study/fit/power_law.h"

namespace sluice::study {

/// A point as one form sees it.
struct Candidate {
  double x = 0.0;       ///< N, D or C
  double second = 1.0;  ///< D, of L(N, D)
  double loss = 0.0;
  std::string unit = {};
  bool above_one_epoch = false;
};

/// The points of one family that a form can take.
struct Candidates {
  std::vector<Candidate> rows;
  std::string note;     ///< which slice they are of
  std::string refusal;  ///< there are none, and why

  [[nodiscard]] std::vector<std::string> units() const;
};

/// L(N): the tokens (within 5 %) at which most sizes were trained, of equals the most; L(D): the size with
/// most budgets, of equals the largest; without the other column all rows. L(C): cells (equal C and N, seeds
/// averaged) than which none had less loss at no more FLOPs.
[[nodiscard]] Candidates candidates_of(const std::vector<Point>& points, const FitOptions& options);

/// A form's variables: "different N", ...
[[nodiscard]] const char* variable_of(Form form);

/// The rows with a weight above 0; for L(C) the means of their cells (equal C and N).
[[nodiscard]] std::vector<Observation> observations(Form form, const std::vector<Candidate>& rows,
                                                    const std::vector<double>& weights,
                                                    std::size_t family = 0);
[[nodiscard]] std::vector<Observation> observations(Form form, const std::vector<Candidate>& rows,
                                                    std::size_t family = 0);

/// Different values of a form's variables among a family's observations.
struct Cells {
  std::size_t all = 0;
  std::size_t first = 0;   ///< different x
  std::size_t second = 0;  ///< different second x
};
[[nodiscard]] Cells cells_of(const std::vector<Observation>& rows, std::size_t family = 0);

/// Why cells cannot carry `parameters` of a form and a judgement of them; "" where they can. `spare`: cells
/// beyond the number of parameters that are asked for.
[[nodiscard]] std::string too_few(const Cells& cells, Form form, std::size_t parameters, std::size_t spare);

}  // namespace sluice::study
