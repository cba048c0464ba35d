#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "trainer/train/evaluate.h"
#include "trainer/train/meter.h"
#include "trainer/train/nodes.h"
#include "trainer/train/step.h"

namespace sluice::train {

/// The train split of a run's corpus.
struct CorpusSummary {
  std::string corpus;  ///< as data.corpus names it
  double share = 1;    ///< of the samples
  std::int64_t tokens = 0;
  std::int64_t dropped_tokens = 0;  ///< at the split's end, too few for a window
  std::int64_t samples_per_epoch = 0;
};

struct RunSummary {
  std::filesystem::path directory;
  std::vector<NodeRanks> nodes;  ///< the job's machines
  std::string device = "cpu";    ///< of rank 0: the GPU's name
  std::string moved_by;          ///< what moves the ranks' exchanges (train::moved_by)
  std::int64_t threads = 1;      ///< compute threads of this rank
  std::int64_t parameters = 0;
  std::vector<CorpusSummary> corpora;  ///< one, or those of a mixture
  std::int64_t samples_per_step = 0;
  std::int64_t tokens_per_step = 0;
  std::int64_t first_step = 0;  ///< steps done before: above zero for a resumed run
  std::int64_t total_steps = 0;
  Peaks peaks;  ///< of rank 0's device
};

enum class TrainOutcome { kDone, kStoppedEarly };

/// Where a run tells how it goes. Called on rank 0 alone, between steps.
class TrainSink {
 public:
  virtual ~TrainSink() = default;
  virtual void warned(const std::string& message) = 0;
  /// What was done before the start, and worth a line.
  virtual void told(const std::string& message) = 0;
  virtual void started(const RunSummary& summary) = 0;
  /// `steps` done, this one included.
  virtual void stepped(std::int64_t steps, const StepResult& result, const StepMetrics& metrics) = 0;
  virtual void evaluated(std::int64_t steps, const Validation& validation) = 0;
  virtual void checkpointed(std::int64_t steps, const std::filesystem::path& directory) = 0;
  virtual void ended(TrainOutcome outcome, std::int64_t steps) = 0;
};

}  // namespace sluice::train
