#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dataio/corpus.h"
#include "dataio/loader.h"
#include "dataio/tokenizer.h"
#include "parallel/communicator.h"
#include "trainer/train/buckets.h"
#include "trainer/train/checkpoint.h"
#include "trainer/train/checkpoint_writer.h"
#include "trainer/train/corpora.h"
#include "trainer/train/device_group.h"
#include "trainer/train/meter.h"
#include "trainer/train/options.h"
#include "trainer/train/peaks.h"
#include "trainer/train/profile.h"
#include "trainer/train/records.h"
#include "trainer/train/replica.h"
#include "trainer/train/run_directory.h"
#include "trainer/train/sequence_ranks.h"
#include "trainer/train/sink.h"
#include "trainer/train/step.h"

namespace sluice::train {

/// What a session needs to know of the program around it.
struct SessionContext {
  RunTexts texts;
  CompareForResume compare;
  std::function<StopWish()> stop_wish;  ///< asked on each rank in each step
  TrainSink* sink = nullptr;            ///< used on rank 0; outlives the session
  std::string profile;                  ///< profile_file()'s name
};

/// One training run on all ranks: set up, or taken up again where its newest good checkpoint stands, and then
/// stepped to its end. Evaluates and checkpoints at its cadence. All ranks construct and run it together.
class Session {
 public:
  /// Collective. A fault on any rank is thrown on all: its own exception where it happened (InputError,
  /// DataError, ...), parallel::PeerError elsewhere.
  Session(const RunOptions& options, SessionContext context, parallel::Communicator& world);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Steps until train.steps are done, or until any rank wishes to stop: then a checkpoint is on disk and
  /// every rank knows it. Throws AgreedError on all ranks together, anything else on one rank alone: others
  /// wait for it, so end the job.
  TrainOutcome run();

  [[nodiscard]] const Replica& replica() const { return *replica_; }
  [[nodiscard]] const optim::AdamW& optimizer() const { return step_->optimizer(); }
  [[nodiscard]] const TrainingState& state() const { return state_; }
  /// This rank's: its slices alone under parallel.zero = 1, of moments and of parameters that are rounded.
  [[nodiscard]] StateBuffers live_state() const;

 private:
  void open_on_rank_zero();
  void share_opening();
  void connect();
  void share_sequences();
  void make_replica();
  void build();
  void share_initial_state();
  void choose_algorithms();
  void watch();

  TrainOutcome train();
  StopWish finish_steps(std::int64_t begun);
  void finish_step(const StepResult& result);
  [[nodiscard]] bool too_many_skipped() const;
  [[noreturn]] void give_up();
  void check_replicas_now();
  void evaluate_now();
  void checkpoint_now();
  void tell_checkpoints();
  void finish_checkpoints();
  [[nodiscard]] CheckpointInfo describe() const;
  // What is due when `steps` are done.
  [[nodiscard]] bool check_due(std::int64_t steps) const;
  [[nodiscard]] bool evaluation_due(std::int64_t steps) const;
  [[nodiscard]] bool checkpoint_due(std::int64_t steps) const;
  void share_mask_ids();
  [[nodiscard]] bool is_rank_zero() const { return world_.rank() == 0; }
  [[nodiscard]] std::int64_t vocabulary_size() const { return corpora_.front().files.vocabulary_size(); }
  [[nodiscard]] std::vector<CorpusSummary> summarise_corpora() const;

  const RunOptions options_;
  SessionContext context_;
  parallel::Communicator& world_;
  DeviceGroup device_;
  std::unique_ptr<SequenceRanks> sequence_;

  std::vector<OpenCorpus> corpora_;
  std::optional<CheckpointInfo> resumed_from_;    ///< rank 0 alone
  std::unique_ptr<dataio::Tokenizer> tokenizer_;  ///< rank 0 alone
  std::optional<MaskIds> mask_ids_;               ///< under train.objective = mlm
  std::unique_ptr<RunRecords> records_;           ///< rank 0 alone
  std::unique_ptr<DirectoryLock> lock_;           ///< rank 0 alone
  TrainingState state_;
  TrainingState last_good_;  ///< after the newest step that was not skipped
  std::int64_t skipped_in_a_row_ = 0;
  std::int64_t last_evaluated_ = -1;  ///< steps done at the newest evaluation
  std::int64_t last_checkpointed_ = -1;
  std::int64_t threads_ = 1;

  std::vector<std::unique_ptr<dataio::SplitReader>> valid_readers_;  ///< of the corpora, one each
  StateBuffers loaded_;  ///< rank 0 alone, during set-up: where the state comes from
  std::unique_ptr<Replica> replica_;
  std::unique_ptr<TrainStep> step_;
  std::unique_ptr<dataio::Loader> loader_;
  Peaks peaks_;
  std::map<std::string, std::int64_t> choices_;  ///< what bits depend on and settings leave open
  std::string products_;                         ///< likewise: the table of linear products
  std::optional<StepMeter> meter_;               ///< rank 0 alone
  std::optional<Profile> profile_;               ///< of ranks that write one
  std::optional<CheckpointWriter> writer_;       ///< rank 0 alone
};

}  // namespace sluice::train
