#include "trainer/study/experiment/cells.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

constexpr std::int64_t kMostSteps = 1'000'000'000;

void put_over(Values& values, const Values& later) {
  for (const auto& [key, value] : later) values[key] = value;
}

Values cell_values(const StudySpec& spec, const Family& family, const Size& size, const Values& axes) {
  Values values = spec.settings;
  put_over(values, family.values);
  put_over(values, size.values);
  const auto own = size.of_family.find(family.name);
  if (own != size.of_family.end()) put_over(values, own->second);
  put_over(values, axes);
  return values;
}

std::string label_of(const std::string& family, const Values& axes) {
  std::string label = family;
  for (const auto& [key, value] : axes) label += fmt::format(", {}={}", key, value);
  return label;
}

std::int64_t steps_of(double amount, BudgetUnit unit, const ModelCounts& counts) {
  double tokens = amount;
  if (unit == BudgetUnit::kFlops) tokens = amount / counts.flops_per_token;
  if (unit == BudgetUnit::kTokensPerParameter) tokens = amount * static_cast<double>(counts.params);
  const double steps = std::round(tokens / static_cast<double>(counts.tokens_per_step));
  return static_cast<std::int64_t>(std::clamp(steps, 1.0, static_cast<double>(kMostSteps)));
}

/// A branch goes on from a checkpoint that the trunk has passed before its own decay.
void check_branches(const Cell& cell) {
  if (!cell.facts.wsd)
    throw train::InputError("budgets.branches = true: needs optim.schedule = wsd, whose trunk is constant");
  if (cell.facts.decay_begin(cell.steps.front()) <= cell.facts.warmup_steps)
    throw train::InputError(
        fmt::format("budgets: the smallest of {} steps decays before its warm-up of {} steps has ended",
                    cell.steps.front(), cell.facts.warmup_steps));
}

void set_budgets(const StudySpec& spec, const Size& size, Cell& cell) {
  const auto& amounts = size.budgets.empty() ? spec.budgets.amounts : size.budgets;
  for (const double amount : amounts)
    cell.steps.push_back(steps_of(amount, spec.budgets.unit, cell.facts.counts));
  std::ranges::sort(cell.steps);
  cell.steps.erase(std::unique(cell.steps.begin(), cell.steps.end()), cell.steps.end());
  if (spec.budgets.branches && cell.steps.size() > 1) check_branches(cell);
  cell.seeds = size.seeds.empty() ? spec.seeds : size.seeds;
  cell.tuned = std::ranges::count(spec.tune.sizes, size.name) > 0;
  cell.tuning_steps = spec.tune.budget > 0 ? steps_of(spec.tune.budget, spec.budgets.unit, cell.facts.counts)
                                           : cell.steps.front();
}

}  // namespace

std::vector<Values> axis_combinations(const std::vector<Axis>& axes) {
  std::vector<Values> all{{}};
  for (const auto& axis : axes) {
    std::vector<Values> longer;
    for (const auto& one : all) {
      for (const auto& value : axis.values) {
        longer.push_back(one);
        longer.back()[axis.key] = value;
      }
    }
    all = std::move(longer);
  }
  return all;
}

std::vector<Cell> make_cells(const StudySpec& spec, const FactsOf& facts_of) {
  std::vector<Cell> cells;
  std::vector<std::string> faults;
  for (const auto& family : spec.families) {
    for (const auto& axes : axis_combinations(spec.axes)) {
      for (const auto& size : spec.sizes) {
        Cell cell{.family = family.name,
                  .family_label = label_of(family.name, axes),
                  .model = size.name,
                  .values = cell_values(spec, family, size, axes)};
        try {
          cell.facts = facts_of(cell.values);
          if (spec.kind == StudyKind::kLoss) set_budgets(spec, size, cell);
          cells.push_back(std::move(cell));
        } catch (const train::InputError& error) {
          for (const auto& fault : error.faults())
            faults.push_back(fmt::format("{} {}: {}", cell.family_label, size.name, fault));
        }
      }
    }
  }
  if (!faults.empty()) throw train::InputError(faults);
  return cells;
}

}  // namespace sluice::study
