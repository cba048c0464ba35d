#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "parallel/agree.h"
#include "parallel/device_memory.h"
#include "trainer/train/data_plan.h"
#include "trainer/train/exchange_choice.h"
#include "trainer/train/movers.h"
#include "trainer/train/product_choice.h"
#include "trainer/train/resume_ground.h"
#include "trainer/train/session.h"
#include "trainer/train/stage.h"
#include "trainer/train/start_weights.h"
#include "trainer/train/state_gather.h"
#include "trainer/train/threads.h"

// How a session comes to be: what rank 0 opens, what all ranks share, what they build.

namespace sluice::train {
namespace {

// Names of choices.
constexpr const char* kHostMemory = "host_memory";
constexpr const char* kPeerMemory = "peer_memory";

}  // namespace

Session::Session(const RunOptions& options, SessionContext context, parallel::Communicator& world)
    : options_(options), context_(std::move(context)), world_(world), device_(options.train.device, world) {
  parallel::on_all_ranks(world_, [this] {
    if (is_rank_zero()) open_on_rank_zero();
  });
  share_opening();
  connect();
  corpora_ = stage_corpora(std::move(corpora_), options_.data.stage, world_, context_.sink);
  threads_ = set_compute_threads(options_.train.threads, world_);
  share_sequences();
  make_replica();
  parallel::on_all_ranks(world_, [this] { build(); });
  share_initial_state();
  choose_algorithms();
  const c10::Device device = replica_->parameters().device();
  if (!device.is_cpu()) {
    peaks_ = find_peaks(device, options_.train.precision, world_);
    parallel::reset_peak_memory(device);
  }
  parallel::on_all_ranks(world_, [this] {
    if (is_rank_zero()) watch();
    if (const auto file = profile_file(context_.profile, world_.rank()))
      profile_.emplace(ProfilePlan{.file = *file}, replica_->parameters().device());
  });
}

void Session::open_on_rank_zero() {
  check_ranks(options_, world_);
  check_products(placement_for(options_.train, device_.device()));  // refused before files are made
  corpora_ = open_corpora(options_);
  tokenizer_ = dataio::load_tokenizer(corpora_.front().files.directory());
  OpenedRun run = open_run(options_, context_.texts, corpora_, context_.compare);
  for (const std::string& warning : run.warnings) context_.sink->warned(warning);
  if (run.checkpoint) {
    state_ = run.checkpoint->state;
    last_checkpointed_ = state_.step;
  }
  last_evaluated_ = run.last_valid_step;
  lock_ = std::move(run.lock);
  resumed_from_ = std::move(run.checkpoint);
  records_ = std::make_unique<RunRecords>(options_.run.dir, options_.train, mixed_order(options_, corpora_),
                                          state_.step);
}

void Session::share_opening() {
  corpora_ = share_corpora(corpora_, options_, world_);
  const nlohmann::json own = {state_.step, state_.tokens, state_.next_sample, last_evaluated_,
                              last_checkpointed_};
  const auto shared = nlohmann::json::parse(world_.broadcast(own.dump(), 0)).get<std::vector<std::int64_t>>();
  state_ = {.step = shared[0], .tokens = shared[1], .next_sample = shared[2]};
  last_evaluated_ = shared[3];
  last_checkpointed_ = shared[4];
  last_good_ = state_;
  if (objective_of(options_.train) == Objective::kMasked) share_mask_ids();
}

void Session::share_mask_ids() {
  std::vector<std::int32_t> ids;  // the mask token, then the special ones
  if (is_rank_zero()) {
    mask_ids_ = mask_ids_of(*tokenizer_);
    ids = mask_ids_->special_tokens;
    ids.insert(ids.begin(), mask_ids_->mask_token);
  }
  ids =
      nlohmann::json::parse(world_.broadcast(nlohmann::json(ids).dump(), 0)).get<std::vector<std::int32_t>>();
  mask_ids_ = {.mask_token = ids.front(),
               .special_tokens = {ids.begin() + 1, ids.end()},
               .vocabulary_size = vocabulary_size()};
}

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

/// The buffers that ranks exchange are made by all of them together. Collective.
void Session::make_replica() {
  Placement placement = placement_for(options_.train, device_.device());
  placement.exchange = &device_.exchange();
  const auto kept = kept_bucket_elements(resumed_from_, device_, world_);
  const parallel::BucketPlan buckets = choose_buckets(options_, vocabulary_size(), device_, kept);
  choices_[kBucketElements] = buckets.bucket_elements;
  replica_ = std::make_unique<Replica>(options_.model, vocabulary_size(), placement, ReplicaUse::kTraining,
                                       buckets, recompute_of(options_.train),
                                       parameter_owner(sharding_of(options_), placement, world_.rank()),
                                       sequence_->exchange());
  step_ = make_train_step(*replica_, step_plan(options_, slicing_of(options_, world_)),
                          sequence_->groups(device_.exchange()));
}

void Session::build() {
  const dataio::Slicing slicing = slicing_of(options_, world_);
  if (is_rank_zero()) {
    if (resumed_from_) {
      loaded_ = whole_buffers(replica_->state_layout(), live_state());
      load_checkpoint(*resumed_from_, replica_->state_layout().logical(), loaded_);
    } else {
      loaded_.parameters = whole_buffer(replica_->state_layout(), replica_->parameters());
      if (options_.train.init_from.empty())
        replica_->draw(options_.model.seed, loaded_.parameters);
      else
        load_start_weights(options_, corpora_.front().files, replica_->state_layout().logical(),
                           loaded_.parameters, *context_.sink);
    }
  }
  std::vector<std::shared_ptr<dataio::SplitReader>> train_readers;
  for (const OpenCorpus& corpus : corpora_) {
    const auto reader = [&](const char* split) {
      return std::make_unique<dataio::SplitReader>(corpus.files.split(split), vocabulary_size(),
                                                   dataio::ReaderOptions{});
    };
    train_readers.push_back(reader("train"));
    if (options_.eval.every > 0) valid_readers_.push_back(reader("valid"));
  }
  const auto masking = mask_ids_ ? std::optional(training_masking(options_, *mask_ids_)) : std::nullopt;
  loader_ =
      std::make_unique<dataio::Loader>(std::move(train_readers), mixed_order(options_, corpora_), slicing,
                                       loader_options(options_, device_.device(), masking), state_.step);
}

StateBuffers Session::live_state() const {
  return {.parameters = replica_->parameters(),
          .first_moment = step_->optimizer().first_moment(),
          .second_moment = step_->optimizer().second_moment()};
}

void Session::share_initial_state() {
  if (state_.step > 0) {
    share_state(replica_->state_layout(), loaded_, live_state(), device_.exchange());
  } else {
    share_buffer(replica_->state_layout(), loaded_.parameters, replica_->parameters(),
                 device_.exchange());  // moments are zero everywhere
  }
  loaded_ = {};
  replica_->round_parameters();
  step_->settle();
}

/// Of the linear products; with them all is known that bits depend on.
void Session::choose_algorithms() {
  const std::string kept = resumed_from_ ? resumed_from_->products.value_or("") : "";
  products_ = choose_products(options_, *replica_, kept, world_).table;
  if (!resumed_from_) return;
  const std::string warning = ground_warning(*resumed_from_, describe());
  if (!warning.empty()) context_.sink->warned(warning);
}

/// Rank 0's instruments.
void Session::watch() {
  const c10::Device device = replica_->parameters().device();
  meter_.emplace(workload_of(options_, vocabulary_size(), world_.size(), device,
                             replica_->computed_with().scalar_type()),
                 peaks_, device);
  writer_.emplace(options_.run.dir, replica_->state_layout().logical(), replica_->parameters().scalar_type(),
                  device, *tokenizer_, options_.checkpoint);
}

}  // namespace sluice::train
