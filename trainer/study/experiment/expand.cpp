#include "trainer/study/experiment/expand.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "trainer/study/experiment/expand_speed.h"
#include "trainer/study/experiment/tuning.h"

namespace sluice::study {
namespace {

/// How a cell comes by the tuned key's value.
struct Chosen {
  std::optional<std::string> value;  ///< empty: the study tunes nothing
  std::string left_out;
};

class LossExpansion {
 public:
  LossExpansion(const StudySpec& spec, const std::vector<Cell>& cells, const Losses& losses,
                std::string directory)
      : spec_(spec), cells_(cells), losses_(losses), directory_(std::move(directory)) {}

  Expansion all() {
    if (!spec_.tune.values.empty()) tune();
    for (const auto& cell : cells_) {
      const auto chosen = choose(cell);
      if (chosen) {
        for (const auto seed : cell.seeds) add_main(cell, *chosen, seed);
      } else {
        out_.undecided += static_cast<std::int64_t>(cell.seeds.size() * cell.steps.size());
      }
    }
    add_tuning();
    return std::move(out_);
  }

 private:
  [[nodiscard]] Run make_run(const Cell& cell, Role role, std::uint64_t seed, std::int64_t steps,
                             const std::optional<std::string>& tuned) const {
    Run run{.family = cell.family_label,
            .model = cell.model,
            .values = cell.values,
            .role = role,
            .ranks = spec_.ranks,
            .steps = steps,
            .seed = seed,
            .counts = cell.facts.counts};
    run.values["run.seed"] = std::to_string(seed);
    run.values["train.steps"] = std::to_string(steps);
    if (tuned) run.values[spec_.tune.key] = *tuned;
    run.id = run_id(cell.family, cell.model, run);
    if (branches(cell) && steps == cell.steps.back()) run.derived["checkpoint.at"] = branch_points(cell);
    return run;
  }

  [[nodiscard]] bool branches(const Cell& cell) const {
    return spec_.budgets.branches && cell.steps.size() > 1;
  }

  /// Where the trunk is left by its branches: the last step of each smaller budget before its decay.
  [[nodiscard]] static std::string branch_points(const Cell& cell) {
    std::vector<std::int64_t> points;
    for (std::size_t i = 0; i + 1 < cell.steps.size(); ++i)
      points.push_back(cell.facts.decay_begin(cell.steps[i]));
    return fmt::format("{}", fmt::join(points, ","));
  }

  void tune() {
    for (const auto& cell : cells_) {
      if (!cell.tuned) continue;
      auto& law = laws_[cell.family_label];
      const auto state = tuning_state({.values = spec_.tune.values,
                                       .factor = spec_.tune.factor,
                                       .most = static_cast<std::size_t>(spec_.tune.most)},
                                      tried_values(cell));
      states_[&cell] = state;
      if (!state.done) {
        law.complete = false;
      } else if (state.interior) {
        law.sizes.push_back({static_cast<double>(cell.facts.counts.params), state.vertex});
      }
    }
  }

  /// Losses of every value whose run is known, however the grid came to it.
  [[nodiscard]] TriedValues tried_values(const Cell& cell) const {
    TriedValues tried;
    const TuningRules rules{.values = spec_.tune.values,
                            .factor = spec_.tune.factor,
                            .most = static_cast<std::size_t>(spec_.tune.most)};
    for (std::size_t known = 0;; known = tried.size()) {
      for (const double value : tuning_state(rules, tried).values) {
        const auto found = losses_.find(tuning_run(cell, value).id);
        if (found != losses_.end()) tried[value] = found->second;
      }
      if (tried.size() == known) return tried;
    }
  }

  [[nodiscard]] Run tuning_run(const Cell& cell, double value) const {
    auto run = make_run(cell, Role::kTuning, cell.seeds.front(), cell.tuning_steps, value_text(value));
    run.left_out = "tuning";
    return run;
  }

  /// nullopt while tuning goes on.
  [[nodiscard]] std::optional<Chosen> choose(const Cell& cell) const {
    if (spec_.tune.values.empty()) return Chosen{};
    if (cell.tuned) {
      const auto& state = states_.at(&cell);
      if (!state.done) return std::nullopt;
      return Chosen{value_text(state.best), state.interior ? "" : "lr at edge"};
    }
    const auto& law = laws_.at(cell.family_label);
    if (!law.complete) return std::nullopt;
    if (const auto fitted = fit_tuning_law(law.sizes))
      return Chosen{value_text(fitted->at(static_cast<double>(cell.facts.counts.params))), ""};
    const double value = law.sizes.empty() ? any_best(cell) : law.sizes.front().value;
    return Chosen{value_text(value), "lr not tuned"};
  }

  [[nodiscard]] double any_best(const Cell& cell) const {
    for (const auto& [other, state] : states_)
      if (other->family_label == cell.family_label) return state.best;
    return spec_.tune.values.front();
  }

  void add_main(const Cell& cell, const Chosen& chosen, std::uint64_t seed) {
    const bool split = branches(cell);
    const auto largest =
        make_run(cell, split ? Role::kTrunk : Role::kRun, seed, cell.steps.back(), chosen.value);
    for (const auto steps : cell.steps) {
      auto run = make_run(cell, Role::kRun, seed, steps, chosen.value);
      if (split) run.role = steps == cell.steps.back() ? Role::kTrunk : Role::kBranch;
      if (run.role == Role::kBranch) {
        run.parent = largest.id;
        run.first_step = cell.facts.decay_begin(steps);
        run.derived["run.branch_from"] =
            fmt::format("{}/runs/{}/{}", directory_, largest.id, checkpoint_name(run.first_step));
      }
      run.left_out = chosen.left_out;
      if (!cell.facts.decays) run.left_out = "not decayed";
      if (run.left_out.empty() && run.tokens() > cell.facts.counts.corpus_tokens)
        run.left_out = "above one epoch";
      out_.runs.push_back(std::move(run));
    }
  }

  /// Those that no main run stands for already.
  void add_tuning() {
    for (const auto& cell : cells_) {
      const auto found = states_.find(&cell);
      if (found == states_.end()) continue;
      for (const double value : found->second.values) {
        auto run = tuning_run(cell, value);
        out_.tuning.push_back({.run = run.id,
                               .family = cell.family_label,
                               .params = cell.facts.counts.params,
                               .value = value,
                               .seed = run.seed,
                               .best = found->second.done && value == found->second.best,
                               .interior = found->second.interior,
                               .done = found->second.done});
        const bool there = std::ranges::any_of(out_.runs, [&](const Run& one) { return one.id == run.id; });
        if (!there) out_.runs.push_back(std::move(run));
      }
    }
  }

  struct Law {
    bool complete = true;
    std::vector<TunedSize> sizes;  ///< with an interior best
  };

  const StudySpec& spec_;
  const std::vector<Cell>& cells_;
  const Losses& losses_;
  std::string directory_;
  std::map<const Cell*, TuningState> states_;
  std::map<std::string, Law> laws_;  ///< by the family's label
  Expansion out_;
};

}  // namespace

Expansion expand(const StudySpec& spec, const std::vector<Cell>& cells, const Losses& losses,
                 const std::string& directory) {
  if (spec.kind == StudyKind::kSpeed) return {.runs = expand_speed(spec, cells)};
  return LossExpansion(spec, cells, losses, directory).all();
}

}  // namespace sluice::study
