#include "trainer/train/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "parallel/agree.h"
#include "parallel/device_memory.h"
#include "parallel/replica_check.h"
#include "trainer/train/data_plan.h"
#include "trainer/train/errors.h"
#include "trainer/train/movers.h"
#include "trainer/train/product_choice.h"
#include "trainer/train/resume_ground.h"
#include "trainer/train/stage.h"
#include "trainer/train/start_weights.h"
#include "trainer/train/state_gather.h"
#include "trainer/train/threads.h"

namespace sluice::train {
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

TrainOutcome Session::run() {
  try {
    return train();
  } catch (...) {
    try {
      finish_checkpoints();  // what was copied of the state is worth the wait
    } catch (const std::exception& error) {
      context_.sink->warned(fmt::format("a checkpoint was lost: {}", error.what()));
    }
    throw;
  }
}

std::vector<CorpusSummary> Session::summarise_corpora() const {
  std::vector<CorpusSummary> summaries;
  const std::vector<double> shares = shares_of(corpora_);
  for (std::size_t i = 0; i < corpora_.size(); ++i) {
    const dataio::WindowPlan plan = window_plan(options_, corpora_[i].files.split("train"));
    summaries.push_back({.corpus = corpora_[i].part.path,
                         .share = shares[i],
                         .tokens = plan.split_tokens,
                         .dropped_tokens = plan.dropped_tokens(),
                         .samples_per_epoch = plan.samples_per_epoch()});
  }
  return summaries;
}

TrainOutcome Session::train() {
  const std::vector<NodeRanks> nodes = ranks_by_node(world_);
  if (is_rank_zero()) {
    context_.sink->started({.directory = options_.run.dir,
                            .nodes = nodes,
                            .device = device_.name(),
                            .moved_by = moved_by(device_.exchange()),
                            .threads = threads_,
                            .parameters = replica_->parameter_count(),
                            .corpora = summarise_corpora(),
                            .samples_per_step = options_.train.global_batch,
                            .tokens_per_step = options_.train.global_batch * options_.model.seq_len,
                            .first_step = state_.step,
                            .total_steps = options_.train.steps,
                            .peaks = peaks_});
  }
  TrainOutcome outcome = TrainOutcome::kDone;
  if (state_.step > 0 && evaluation_due(state_.step)) evaluate_now();  // stopped before it could be made
  for (std::int64_t begun = state_.step; state_.step < options_.train.steps;) {
    if (profile_) profile_->before_step();
    step_->begin(begun++, *loader_, context_.stop_wish);
    if (finish_steps(begun) == StopWish::kStop && begun < options_.train.steps) {
      step_->settle();
      checkpoint_now();
      outcome = TrainOutcome::kStoppedEarly;
      break;
    }
    if (state_.step < begun) continue;
    if (too_many_skipped()) give_up();
    step_->settle();
    if (check_due(begun)) check_replicas_now();
    if (evaluation_due(begun)) evaluate_now();
    if (checkpoint_due(begun)) checkpoint_now();
  }
  if (profile_) profile_->finish();
  finish_checkpoints();
  world_.barrier();  // nobody leaves before the last checkpoint is on disk
  if (is_rank_zero()) context_.sink->ended(outcome, state_.step);
  return outcome;
}

/// Finishes all steps of `begun` but those that may lag; all where something is due that looks at the
/// parameters, or somebody wishes to stop.
StopWish Session::finish_steps(std::int64_t begun) {
  const bool look =
      begun == options_.train.steps || check_due(begun) || evaluation_due(begun) || checkpoint_due(begun);
  StopWish wish = StopWish::kGoOn;
  const auto allowed = [&] {
    return look || wish == StopWish::kStop || too_many_skipped() ? 0 : step_->lag();
  };
  while (begun - state_.step > allowed()) {
    const StepResult result = step_->finish();
    finish_step(result);
    if (result.stop == StopWish::kStop) wish = StopWish::kStop;
  }
  return wish;
}

void Session::finish_step(const StepResult& result) {
  const std::int64_t step_tokens = options_.train.global_batch * options_.model.seq_len;
  const dataio::SampleRange samples{.first = state_.next_sample, .count = options_.train.global_batch};
  ++state_.step;
  state_.tokens += step_tokens;
  state_.next_sample += samples.count;
  if (result.skipped) {
    ++skipped_in_a_row_;
  } else {
    skipped_in_a_row_ = 0;
    last_good_ = state_;
  }
  if (!is_rank_zero()) return;
  const StepMetrics metrics = meter_->observe(result);
  records_->consumed(state_.step, samples);
  if (result.skipped) {
    records_->skipped(state_.step, state_.tokens, samples, result);
    context_.sink->warned(fmt::format(
        "step {} skipped: loss {} and gradient norm {}, not both finite, on samples {} to {}; nothing was "
        "updated",
        state_.step, result.loss, result.grad_norm, samples.first, samples.first + samples.count - 1));
  } else {
    records_->step(state_.step, state_.tokens, result, metrics);
    context_.sink->stepped(state_.step, result, metrics);
  }
  tell_checkpoints();
}

bool Session::too_many_skipped() const { return skipped_in_a_row_ > options_.train.max_skipped; }

/// Skipped steps changed nothing but the count of steps: the checkpoint is that of the last step taken, or a
/// later one that stands already: an older one beside it would be pruned, or passed over on resume.
void Session::give_up() {
  const std::int64_t first = last_good_.next_sample;
  const std::int64_t last = state_.next_sample - 1;
  state_ = last_good_;
  step_->settle();
  if (state_.step > 0 && last_checkpointed_ < state_.step) checkpoint_now();
  throw AgreedError(fmt::format(
      "{} steps in a row skipped (train.max_skipped = {}): loss or gradient not finite on samples {} "
      "to {}; the state after step {} stands (a smaller optim.lr or optim.clip may help)",
      skipped_in_a_row_, options_.train.max_skipped, first, last, state_.step));
}

void Session::check_replicas_now() {
  try {
    parallel::check_replicas(world_, replica_->layout(), replica_->whole_parameters().cpu(),
                             fmt::format("parameters after step {}", state_.step));
  } catch (const parallel::ReplicaDrift& drift) {
    throw AgreedError(drift.what());
  }
}

bool Session::check_due(std::int64_t steps) const {
  const std::int64_t every = options_.parallel.check_replicas_every;
  return every > 0 && steps % every == 0;
}

bool Session::evaluation_due(std::int64_t steps) const {
  const std::int64_t every = options_.eval.every;
  if (every == 0 || last_evaluated_ == steps) return false;
  return steps % every == 0 || steps == options_.train.steps;
}

bool Session::checkpoint_due(std::int64_t steps) const {
  const std::int64_t every = options_.checkpoint.every;
  if (last_checkpointed_ == steps) return false;
  return (every > 0 && steps % every == 0) || steps == options_.train.steps ||
         std::ranges::find(options_.checkpoint.at, steps) != options_.checkpoint.at.end();
}

CheckpointInfo Session::describe() const {
  CheckpointInfo info{.directory = {},
                      .state = state_,
                      .model = options_.model,
                      .vocabulary_size = vocabulary_size(),
                      .corpus_fingerprint = {},
                      .world_size = world_.size(),
                      .device = device_.name(),
                      .build = context_.texts.build,
                      .choices = choices_,
                      .products = products_,
                      .resolved_ini = context_.texts.resolved_ini};
  describe_corpora(corpora_, info);
  return info;
}

void Session::checkpoint_now() {
  last_checkpointed_ = state_.step;
  const auto gather = [this](const StateBuffers& host) {
    return step_->read_state(
        [&] { gather_state(replica_->state_layout(), live_state(), host, device_.exchange()); });
  };
  if (!is_rank_zero()) {
    gather({})();
    return;
  }
  records_->sync();
  writer_->snapshot(describe(), gather);
}

/// Of those that reached the disk meanwhile.
void Session::tell_checkpoints() {
  if (!writer_) return;
  for (const WrittenCheckpoint& written : writer_->take_written()) {
    records_->checkpoint(written);
    context_.sink->checkpointed(written.step, written.directory);
  }
}

void Session::finish_checkpoints() {
  if (!writer_) return;
  writer_->finish();
  tell_checkpoints();
}

}  // namespace sluice::train
