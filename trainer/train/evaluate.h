#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>
#include <vector>

#include "dataio/corpus.h"
#include "parallel/communicator.h"
#include "trainer/model/language_model.h"
#include "trainer/train/masking.h"
#include "trainer/train/sequence_ranks.h"

namespace sluice::train {

/// Which part of a split is evaluated, and how it is cut. None of it depends on the world size.
struct EvaluationPlan {
  std::int64_t seq_len = 0;
  std::int64_t micro_batch = 8;  ///< windows at once
  std::int64_t batches =
      0;  ///< at most, all ranks together, spread evenly over the split; 0: the whole split
  at::Device device = at::kCPU;      ///< the model's
  std::optional<Masking> masking{};  ///< of a masked language model
  const SequenceRanks* sequence =
      nullptr;  ///< with whom this rank shares its windows; none: it has them whole
};

/// Of the targets at one position of a window.
struct PositionLoss {
  double sum = 0;  ///< nats
  std::int64_t targets = 0;

  /// Nats per target; NaN without.
  [[nodiscard]] double mean() const { return sum / static_cast<double>(targets); }
};

struct EvaluationResult {
  double loss = 0;      ///< nats per predicted token
  double loss_sum = 0;  ///< nats
  std::int64_t tokens =
      0;  ///< predicted; of a whole split all but its first, or those that the masking hides
  std::int64_t batches = 0;
  std::vector<PositionLoss> positions{};  ///< of evaluate_positions: seq_len of them
};

/// The valid split of one corpus of a run.
struct CorpusValidation {
  std::string corpus;  ///< as data.corpus names it
  double share = 1;    ///< of the run's samples
  EvaluationResult result;
};

/// The valid splits of a run's corpora, each evaluated by itself.
struct Validation {
  double loss = 0;                        ///< nats per token: sum of share x loss over the corpora
  std::int64_t tokens = 0;                ///< predicted in all
  std::vector<CorpusValidation> corpora;  ///< in the order of data.corpus
};
[[nodiscard]] Validation validation_of(std::vector<CorpusValidation> corpora);

/// Mean loss over a split. Windows lie side by side and the last one is short, so each token but the first is
/// predicted exactly once; with masking each hidden token is, and which are hidden is a function of the
/// window's place alone. Ranks, or rows of those that share windows, take batches in turn; each batch's sum
/// is kept in float64 and the sums are added in the order of the batches, so that every number of ranks that
/// take whole windows gives the same bits (at the same number of threads). All ranks call it with the same
/// plan, all get the result. Throws DataError, and InputError for a split of fewer than 2 tokens, or with
/// nothing to predict.
[[nodiscard]] EvaluationResult evaluate(const model::LanguageModel& model, dataio::SplitReader& reader,
                                        const EvaluationPlan& plan, parallel::Communicator& communicator);

/// evaluate(), and the loss of each position of a window by itself; their sums are added over ranks, so that
/// the last bits depend on how many there are. Position i of a causal model has seen i + 1 tokens.
[[nodiscard]] EvaluationResult evaluate_positions(const model::LanguageModel& model,
                                                  dataio::SplitReader& reader, const EvaluationPlan& plan,
                                                  parallel::Communicator& communicator);

}  // namespace sluice::train
