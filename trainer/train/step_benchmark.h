#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dataio/corpus.h"
#include "parallel/device_memory.h"
#include "trainer/train/device_group.h"
#include "trainer/train/meter.h"
#include "trainer/train/options.h"
#include "trainer/train/sequence_ranks.h"
#include "trainer/train/step.h"

namespace sluice::train {

struct BenchmarkPlan {
  std::int64_t warm_up = 3;                        ///< steps that are not counted
  std::int64_t steps = 20;                         ///< at least one
  Exchanging exchanging = Exchanging::kWithRanks;  ///< in the steps; set-up is always with the ranks
  std::string profile{};                           ///< profile_file()'s name, of steps after the warm-up
};

/// Seconds of one step of this rank.
struct StepTimes {
  StepResult result;
  double cpu_s = 0;  ///< CPU time of the whole process, its loader included
};

struct StepBenchmark {
  std::int64_t parameters = 0;
  std::int64_t tokens_per_step = 0;  ///< of all ranks
  std::vector<StepTimes> steps;
  double start_to_first_step_s = 0;  ///< from the start of the process until its first step was done
  parallel::DeviceMemory memory;     ///< of this rank's device, set-up included
  std::int64_t tuned_products = 0;   ///< linear products whose algorithms were timed before the first step
  double tuning_s = 0;
  StepMetrics metrics;  ///< at the median step; power and energy are means over the counted steps
  Peaks peaks;
};

/// Runs steps of training, as a run with these options would, on `split`. Neither evaluates nor writes.
/// Compute threads are the caller's. Collective. Throws InputError where a rank would have no sample, and
/// what the parts throw.
[[nodiscard]] StepBenchmark benchmark_steps(const RunOptions& options, const dataio::SplitLayout& split,
                                            std::int64_t vocabulary_size, const BenchmarkPlan& plan,
                                            DeviceGroup& group);

}  // namespace sluice::train
