#include <fmt/format.h>

#include <optional>
#include <utility>
#include <vector>

#include "trainer/train/exchange_choice.h"
#include "trainer/train/movers.h"
#include "trainer/train/session.h"

// How a session's ranks exchange, and what they do by rows that share sequences.

namespace sluice::train {
namespace {

// Names of choices.
constexpr const char* kHostMemory = "host_memory";
constexpr const char* kPeerMemory = "peer_memory";

}  // namespace

/// Once the vocabulary is known. Measured once in a run. Collective.
void Session::connect() {
  std::optional<parallel::Movers> kept;
  for (const auto& [name, movers] : {std::pair{kHostMemory, parallel::Movers::kHostMemory},
                                     std::pair{kPeerMemory, parallel::Movers::kPeerMemory}})
    if (kept_choice(name, resumed_from_, device_, world_)) kept = movers;
  const std::string told = connect_ranks(device_, options_, vocabulary_size(), kept);
  if (is_rank_zero() && !told.empty()) context_.sink->told(told);
  const parallel::Communicator& ranks = device_.exchange();
  if (ranks.has_copy_engines()) choices_[ranks.has_host_memory() ? kHostMemory : "copy_engines"] = 1;
  if (ranks.has_peer_memory()) choices_[kPeerMemory] = 1;
}

/// Measured once in a run: another mode sums in another order. Collective.
void Session::share_sequences() {
  const std::string name = exchange_choice_name(options_.parallel.sp);
  std::optional<kernels::ExchangeMode> kept;
  if (const auto value = kept_choice(name, resumed_from_, device_, world_))
    kept = static_cast<kernels::ExchangeMode>(*value);
  const ExchangeChoice choice = choose_exchange(options_, kept, device_);
  sequence_ = std::make_unique<SequenceRanks>(choice.options, world_, device_.device());
  if (options_.parallel.sp == 1 || options_.parallel.sp_mode != "auto") return;
  choices_[name] = static_cast<std::int64_t>(sequence_->exchange()->mode());
  if (is_rank_zero() && !choice.predictions.empty())
    context_.sink->told(fmt::format("parallel.sp_mode = auto is {}; predicted for a layer of a step: {}",
                                    choice.options.parallel.sp_mode, prediction_text(choice.predictions)));
}

void Session::evaluate_now() {
  EvaluationPlan plan{.seq_len = options_.model.seq_len,
                      .micro_batch = options_.train.micro_batch,
                      .batches = options_.eval.batches,
                      .device = device_.device(),
                      .sequence = sequence_.get()};
  if (mask_ids_) plan.masking = evaluation_masking(options_.train, *mask_ids_);
  const std::vector<double> shares = shares_of(corpora_);
  std::vector<CorpusValidation> results;
  for (std::size_t i = 0; i < corpora_.size(); ++i) {
    results.push_back({.corpus = corpora_[i].part.path,
                       .share = shares[i],
                       .result = evaluate(replica_->model(), *valid_readers_[i], plan, world_)});
  }
  last_evaluated_ = state_.step;
  if (!is_rank_zero()) return;
  const Validation validation = validation_of(std::move(results));
  records_->valid(state_.step, state_.tokens, validation);
  context_.sink->evaluated(state_.step, validation);
}

}  // namespace sluice::train
