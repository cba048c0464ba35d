#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trainer/study/plan/step_model.h"
#include "trainer/train/options.h"

namespace sluice::cli {

/// What a plan may choose; an empty list: all that make sense.
struct PlanChoices {
  std::vector<std::int64_t> sp = {};
  std::vector<std::int64_t> zero = {};
  std::vector<std::string> recompute = {};
  std::vector<std::int64_t> micro_batch = {};
};

/// One way to run on so many ranks: its prediction, or why it cannot be.
struct PlanCandidate {
  study::plan::Layout layout;
  std::optional<study::plan::StepPrediction> step;
  std::string refusal;
};

/// Every combination of the choices for `options` on `ranks` ranks: those that can be by rising step time
/// (then memory), then the others. Lists left empty are: sp powers of two that divide CPU ranks, 1 on GPUs;
/// zero 0, and 1 on several; recompute none, gate of a gMLP, block; micro-batches by powers of two up to a
/// rank's sequences, and these.
[[nodiscard]] std::vector<PlanCandidate> search_plans(const train::RunOptions& options,
                                                      std::int64_t vocabulary_size, std::int64_t ranks,
                                                      const study::plan::Cluster& cluster,
                                                      const PlanChoices& choices);

}  // namespace sluice::cli
