#include "trainer/study/experiment/tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "trainer/study/experiment/tuning.h"

namespace sluice::study {
namespace {

std::string number(double value) { return std::isfinite(value) ? fmt::format("{}", value) : ""; }

std::string value_of(const Run& run, const std::string& key) {
  const auto found = run.values.find(key);
  return found == run.values.end() ? "" : found->second;
}

/// The bootstrap's unit: runs that share a trunk, or their first steps, are no draws of their own.
std::string trunk_of(const Run& run) { return run.parent.empty() ? run.id : run.parent; }

}  // namespace

Table points_table(const std::vector<StudyRun>& runs) {
  Table table;
  table.columns = {"family",
                   "params",
                   "tokens",
                   "flops",
                   "loss",
                   "seed",
                   "params_no_embedding",
                   "params_no_spatial",
                   "unique_tokens",
                   "epochs",
                   "lr",
                   "trunk",
                   "run",
                   "use",
                   "model",
                   "steps",
                   "role",
                   "version"};
  for (const auto& [run, state, directory, predicted] : runs) {
    if (run.role == Role::kSpeed || !std::isfinite(state.loss)) continue;
    const auto tokens = run.tokens();
    const auto& counts = run.counts;
    table.rows.push_back({run.family, std::to_string(counts.params), std::to_string(tokens),
                          number(counts.flops_per_token * static_cast<double>(tokens)), number(state.loss),
                          std::to_string(run.seed), std::to_string(counts.params_no_embedding),
                          std::to_string(counts.params_no_spatial),
                          std::to_string(std::min(tokens, counts.corpus_tokens)),
                          number(static_cast<double>(tokens) / static_cast<double>(counts.corpus_tokens)),
                          value_of(run, "optim.lr"), trunk_of(run), run.id, run.left_out, run.model,
                          std::to_string(run.steps), role_name(run.role), state.version});
  }
  return table;
}

Table tuning_table(const std::vector<TuningPoint>& points, const std::vector<StudyRun>& runs) {
  Table table;
  table.columns = {"family", "params", "lr", "loss", "seed", "best", "interior", "run"};
  for (const auto& point : points) {
    const auto found =
        std::ranges::find_if(runs, [&](const StudyRun& one) { return one.run.id == point.run; });
    if (found == runs.end() || !std::isfinite(found->state.loss)) continue;
    table.rows.push_back({point.family, std::to_string(point.params), value_text(point.value),
                          number(found->state.loss), std::to_string(point.seed), point.best ? "1" : "0",
                          point.interior ? "1" : "0", point.run});
  }
  return table;
}

}  // namespace sluice::study
