#include "trainer/study/experiment/expand_speed.h"

#include <algorithm>
#include <string>

namespace sluice::study {
namespace {

std::int64_t integer_of(const Values& values, const std::string& key, std::int64_t otherwise) {
  const auto found = values.find(key);
  return found == values.end() ? otherwise : std::stoll(found->second);
}

/// On so many ranks that one's share of the batch is less than a micro-batch, the share is one.
void fit_micro_batch(Values& values, std::int64_t dp) {
  const auto found = values.find("train.micro_batch");
  if (found == values.end()) return;
  const auto share = integer_of(values, "train.global_batch", 0) / dp;
  if (share > 0 && share < std::stoll(found->second)) found->second = std::to_string(share);
}

}  // namespace

std::vector<Run> expand_speed(const StudySpec& spec, const std::vector<Cell>& cells) {
  std::vector<Run> runs;
  for (const auto& cell : cells) {
    const auto shared_batch = integer_of(cell.values, "train.global_batch", 0);
    for (const auto& mode : spec.speed.modes) {
      for (const auto ranks : spec.speed.ranks) {
        const auto sp = integer_of(cell.values, "parallel.sp", 1);
        if (ranks % sp != 0) continue;
        Run run{.family = cell.family_label,
                .model = cell.model,
                .values = cell.values,
                .derived = {{"steps", std::to_string(spec.speed.steps)},
                            {"warmup", std::to_string(spec.speed.warmup)},
                            {"vocabulary", std::to_string(spec.speed.vocabulary)}},
                .role = Role::kSpeed,
                .mode = mode,
                .ranks = ranks,
                .counts = cell.facts.counts};
        const auto each = spec.speed.weak_batch > 0 ? spec.speed.weak_batch : shared_batch;
        if (mode == "weak") run.values["train.global_batch"] = std::to_string(each * ranks);
        fit_micro_batch(run.values, ranks / sp);
        run.id = run_id(cell.family, cell.model, run);
        const bool there = std::ranges::any_of(runs, [&](const Run& one) { return one.id == run.id; });
        if (!there) runs.push_back(std::move(run));
      }
    }
  }
  return runs;
}

}  // namespace sluice::study
