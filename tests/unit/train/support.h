#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tests/unit/dataio/scratch.h"
#include "trainer/train/options.h"
#include "trainer/train/session.h"

namespace sluice::train {

using TemporaryDirectory = dataio::Scratch;

/// A corpus of 600 training tokens in two shards and 77 validation tokens, ids of the byte tokenizer.
void make_corpus(const std::filesystem::path& directory, dataio::MaskToken mask = dataio::MaskToken::kNone);

/// A small model on that corpus: 20 steps of 8 windows of 8 tokens, so that a run crosses epochs.
[[nodiscard]] RunOptions small_run(const std::filesystem::path& corpus, const std::filesystem::path& run);

/// A file of JSON objects, one a line: metrics, a ledger.
[[nodiscard]] std::vector<nlohmann::json> lines_of(const std::filesystem::path& file);

/// Keeps what a session tells.
class RecordingSink : public TrainSink {
 public:
  void warned(const std::string& message) override { warnings.push_back(message); }
  void told(const std::string& message) override { lines.push_back(message); }
  void started(const RunSummary& summary) override { starts.push_back(summary); }
  void stepped(std::int64_t /*steps*/, const StepResult& result, const StepMetrics& /*metrics*/) override {
    losses.push_back(result.loss);
  }
  void evaluated(std::int64_t /*steps*/, const Validation& validation) override {
    valid.push_back(validation);
  }
  void checkpointed(std::int64_t steps, const std::filesystem::path& /*directory*/) override {
    checkpoints.push_back(steps);
  }
  void ended(TrainOutcome outcome, std::int64_t /*steps*/) override { outcomes.push_back(outcome); }

  std::vector<std::string> warnings;
  std::vector<std::string> lines;
  std::vector<RunSummary> starts;
  std::vector<double> losses;
  std::vector<Validation> valid;
  std::vector<std::int64_t> checkpoints;
  std::vector<TrainOutcome> outcomes;
};

/// The tensors of a flat buffer in the layout without a plan, whatever layout they lie in.
[[nodiscard]] at::Tensor in_one_bucket(const parallel::ArenaLayout& layout, const at::Tensor& flat);

/// Whether ranks hold the same bits of what they hold alike. Collective.
[[nodiscard]] bool replicas_agree(const Replica& replica, parallel::Communicator& world);

/// What a run left in memory: buffers of rank 0, in one bucket, and whether every rank held the same bits.
struct RanksResult {
  at::Tensor parameters;
  at::Tensor first_moment;
  at::Tensor second_moment;
  bool replicas_equal = true;
  TrainOutcome outcome = TrainOutcome::kDone;
  RecordingSink told;
};

/// What goes differently in one call of run_on_ranks().
struct RunTricks {
  std::int64_t stop_in_step = -1;  ///< the step (counted from 1) in which the last rank wishes to stop
  ResumeVerdict verdict;           ///< what the comparison of settings says
};

/// A whole session on threads as ranks.
RanksResult run_on_ranks(std::int64_t ranks, const RunOptions& options, const RunTricks& tricks = {});

}  // namespace sluice::train
