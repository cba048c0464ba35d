#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace sluice::study {

/// One {"kind":"train"} line of metrics.jsonl. Losses in nats per token, times in seconds; NaN where a line
/// has null or no such key.
struct TrainRecord {
  std::int64_t step = 0;
  std::int64_t tokens = 0;  ///< seen so far, this step included
  double loss = 0.0;
  double lr = 0.0;
  double grad_norm = 0.0;
  double tokens_per_s = 0.0;
  double step_s = 0.0;
  double data_wait_s = 0.0;
  double comm_exposed_s = 0.0;
  double forward_s = 0.0;
  double backward_s = 0.0;
  double optimizer_s = 0.0;
  double mfu = std::numeric_limits<double>::quiet_NaN();  ///< of the measured peak
  double energy_per_token_j = std::numeric_limits<double>::quiet_NaN();
  double flops_per_token = std::numeric_limits<double>::quiet_NaN();  ///< useful ones
};

/// One corpus of a mixture in a line of kind "valid".
struct CorpusLoss {
  std::string corpus;  ///< as data.corpus names it
  double share = 0.0;  ///< of the run's samples
  double loss = 0.0;
};

/// One {"kind":"valid"} line.
struct ValidRecord {
  std::int64_t step = 0;
  std::int64_t tokens = 0;
  double loss = 0.0;                     ///< of a mixture the mean of its corpora's, weighted by share
  std::vector<CorpusLoss> corpora = {};  ///< of a mixture
};

struct Metrics {
  std::vector<TrainRecord> train;
  std::vector<ValidRecord> valid;
};

/// Reads metrics.jsonl. A last line that was torn by a kill is left out; lines of other kinds are passed
/// over. Throws train::InputError naming file and line for any other line that is not a JSON object, or a
/// file that cannot be read.
[[nodiscard]] Metrics read_metrics(const std::filesystem::path& file);

}  // namespace sluice::study
