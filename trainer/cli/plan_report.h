#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/cli/plan_search.h"

namespace sluice::cli {

struct RankPlan {
  std::int64_t ranks = 1;
  std::int64_t global_batch = 1;
  std::vector<PlanCandidate> candidates;  ///< as search_plans() orders them
};

/// What `sluice plan` has found.
struct PlanReport {
  std::string model;  ///< file
  study::plan::Cluster cluster;
  std::int64_t vocabulary_size = 0;
  double tokens = 0;       ///< that costs are for
  std::int64_t shown = 1;  ///< candidates of each number of ranks in plan_lines()
  std::vector<RankPlan> plans;
};

/// For people: the best of each number of ranks by cause and cost, how much slower the next ones are, and why
/// others cannot be.
[[nodiscard]] std::string plan_lines(const PlanReport& report);
/// Every candidate, one JSON object. Seconds, bytes.
[[nodiscard]] std::string plan_json(const PlanReport& report);

}  // namespace sluice::cli
