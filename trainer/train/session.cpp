#include "trainer/train/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "parallel/replica_check.h"
#include "trainer/train/data_plan.h"
#include "trainer/train/errors.h"
#include "trainer/train/movers.h"
#include "trainer/train/state_gather.h"

namespace sluice::train {

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
