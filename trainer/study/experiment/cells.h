#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "trainer/study/experiment/run.h"

namespace sluice::study {

/// What the program knows of settings: model arithmetic and the schedule. Given by trainer/cli.
struct CellFacts {
  ModelCounts counts{};
  std::int64_t warmup_steps = 0;
  bool decays = false;  ///< the schedule ends low: the loss at its end may enter fits
  bool wsd = false;
  std::function<std::int64_t(std::int64_t)> decay_begin{};  ///< of a run of so many steps
};
/// Throws train::InputError for settings that cannot be together.
using FactsOf = std::function<CellFacts(const Values&)>;

/// A family at a size: runs that differ in budget, seed and the tuned key alone.
struct Cell {
  std::string family{};        ///< as in the file: names the directories
  std::string family_label{};  ///< with the values of axes: names the rows of tables
  std::string model{};
  Values values{};
  CellFacts facts{};
  std::vector<std::uint64_t> seeds{};
  std::vector<std::int64_t> steps{};  ///< of each budget, rising
  bool tuned = false;                 ///< the study tunes at this size
  std::int64_t tuning_steps = 0;
};

/// Every family x size x combination of axes, in the file's order. Throws train::InputError with the faults
/// of all cells at once, each with its cell's name.
[[nodiscard]] std::vector<Cell> make_cells(const StudySpec& spec, const FactsOf& facts_of);

/// The combinations of the axes' values, the last axis fastest; one without any where there is no axis.
[[nodiscard]] std::vector<Values> axis_combinations(const std::vector<Axis>& axes);

}  // namespace sluice::study
