#include "parallel/gradient_reducer.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "parallel/at_index.h"

namespace sluice::parallel {
namespace {

using Clock = std::chrono::steady_clock;

/// How often the helper calls into MPI while something runs: rarely enough to cost a core nothing that shows.
constexpr std::chrono::microseconds kPoll{100};

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

GradientReducer::GradientReducer(const ArenaLayout& layout, const at::Tensor& gradients, BucketGroups groups,
                                 const ReducerOptions& options)
    : layout_(layout), groups_(groups), options_(options), bucket_of_entry_(layout.entries().size()) {
  // On a GPU the exchange moves by itself.
  if (groups.all().size() == 1 || !gradients.is_cpu()) options_.progress = ReducerProgress::kCaller;
  if (options_.mode != ReduceMode::kAllReduce || layout.differs_by_place()) groups_.check(layout);
  for (std::size_t index = 0; index < layout.buckets().size(); ++index) {
    const Bucket& bucket = layout.buckets()[index];
    tensors_.push_back(layout.bucket_view(gradients, static_cast<std::int64_t>(index)));
    for (std::int64_t entry = bucket.first_entry; entry < bucket.last_entry; ++entry)
      bucket_of_entry_[at_index(entry)] = static_cast<std::int64_t>(index);
  }
  if (is_pushed(gradients))
    pushed_.emplace(layout, gradients, groups.all());
  else
    for (const Holders holders : {Holders::kAllRanks, Holders::kSamePlace}) make_ordered(holders);
  halves_last_ = options.last == LastBucket::kInHalves && options.mode == ReduceMode::kAllReduce &&
                 options.wire == at::kFloat && groups.of(layout.buckets().back().holders).size() > 1;
  if (halves_last_) groups_.check(layout);
}

bool GradientReducer::is_pushed(const at::Tensor& gradients) const {
  return options_.mode != ReduceMode::kAllReduce && options_.wire == at::kFloat &&
         gradients.scalar_type() == at::kFloat && !layout_.differs_by_place() &&
         PushedReduction::serves(groups_.all());
}

/// In place of the own sums of the group that exchanges buckets of `holders`, if those are not the ones asked
/// for.
void GradientReducer::make_ordered(Holders holders) {
  std::int64_t largest = 0;
  for (std::size_t index = 0; index < tensors_.size(); ++index)
    if (layout_.buckets()[index].holders == holders) largest = std::max(largest, tensors_[index].numel());
  Communicator& group = groups_.of(holders);
  if (group.size() == 1 || largest == 0) return;
  const at::Tensor& like = tensors_.front();
  const bool by_copy_engines = group.has_copy_engines() && !like.is_cpu() && like.scalar_type() == at::kFloat;
  if (options_.wire == at::kFloat && !by_copy_engines) return;
  ordered(holders).emplace(group, largest, options_.wire, like.device());
}

void GradientReducer::start() {
  TORCH_CHECK(!active_, "GradientReducer: started twice without finish()");
  active_ = true;
  exposed_s_ = 0;
  startable_ = 0;
  gathering_last_ = false;
  running_.clear();
  ready_.assign(layout_.entries().size(), false);
  missing_.clear();
  for (const Bucket& bucket : layout_.buckets()) missing_.push_back(bucket.last_entry - bucket.first_entry);
  if (pushed_) pushed_->start();
  if (options_.progress == ReducerProgress::kThread)
    helper_ = std::jthread([this](const std::stop_token& stop) { help(stop); });
}

void GradientReducer::mark_ready(std::int64_t entry) {
  TORCH_CHECK(active_, "GradientReducer: entry ", entry, " is ready before start()");
  TORCH_CHECK(entry >= 0 && at_index(entry) < ready_.size(), "GradientReducer: there are ", ready_.size(),
              " entries, got ", entry);
  TORCH_CHECK(!ready_[at_index(entry)], "GradientReducer: entry ", entry, " (",
              layout_.entries()[at_index(entry)].name, ") is ready twice");
  ready_[at_index(entry)] = true;
  --missing_[at_index(bucket_of_entry_[at_index(entry)])];
  {
    const std::lock_guard lock(mutex_);
    while (startable_ < tensors_.size() && missing_[startable_] == 0) ++startable_;
  }
  changed_.notify_all();
  progress();
}

void GradientReducer::progress() {
  TORCH_CHECK(active_, "GradientReducer: progress() outside start() and finish()");
  if (options_.progress == ReducerProgress::kThread) return;
  const auto begin = Clock::now();
  advance();
  exposed_s_ += seconds_since(begin);
}

/// With all entries ready: from here on the caller alone moves the exchange.
void GradientReducer::start_rest() {
  for (std::size_t entry = 0; entry < ready_.size(); ++entry)
    TORCH_CHECK(ready_[entry], "GradientReducer: entry ", entry, " (", layout_.entries()[entry].name,
                ") was never ready");
  if (helper_.joinable()) {
    helper_.request_stop();
    helper_.join();
  }
  if (fault_) std::rethrow_exception(fault_);
  advance();
}

void GradientReducer::wait(std::int64_t buckets) {
  TORCH_CHECK(active_, "GradientReducer: wait() outside start() and finish()");
  TORCH_CHECK(options_.mode != ReduceMode::kReduceScatterAllGather && buckets >= 0 &&
                  at_index(buckets) <= tensors_.size(),
              "GradientReducer: wait(", buckets, ") of ", tensors_.size(), " buckets, mode ",
              static_cast<int>(options_.mode));
  const auto begin = Clock::now();
  start_rest();
  for (std::size_t bucket = 0; bucket < at_index(buckets); ++bucket) running_[bucket].wait();
  if (pushed_) pushed_->add(buckets);
  exposed_s_ += seconds_since(begin);
}

void GradientReducer::finish_slices() { wait(static_cast<std::int64_t>(tensors_.size())); }

void GradientReducer::gather_last() {
  TORCH_CHECK(active_ && !gathering_last_,
              "GradientReducer: gather_last() outside start() and finish(), or twice");
  if (!halves_last_) return;
  running_.back() = groups_.of(layout_.buckets().back().holders).all_gather_async(tensors_.back());
  gathering_last_ = true;
}

double GradientReducer::finish() {
  TORCH_CHECK(active_, "GradientReducer: finish() without start()");
  if (halves_last_ && !gathering_last_) {
    finish_slices();
    gather_last();
  }
  const auto begin = Clock::now();
  start_rest();
  for (Work& work : running_) work.wait();
  if (pushed_) pushed_->add(static_cast<std::int64_t>(running_.size()));
  running_.clear();
  if (options_.mode == ReduceMode::kReduceScatterAllGather) {
    for (std::size_t index = 0; index < tensors_.size(); ++index)
      running_.push_back(groups_.of(layout_.buckets()[index].holders).all_gather_async(tensors_[index]));
    for (Work& work : running_) work.wait();
    running_.clear();
  }
  active_ = false;
  return exposed_s_ + seconds_since(begin);
}

Work GradientReducer::begin_bucket(std::size_t index) {
  const at::Tensor& tensor = tensors_[index];
  const Holders holders = layout_.buckets()[index].holders;
  if (pushed_) return pushed_->exchange_async(static_cast<std::int64_t>(index));
  const bool in_halves = halves_last_ && index + 1 == tensors_.size();
  const bool everywhere = options_.mode == ReduceMode::kAllReduce && !in_halves;
  if (auto& own = ordered(holders))
    return everywhere ? own->all_reduce_async(tensor) : own->reduce_scatter_async(tensor);
  Communicator& group = groups_.of(holders);
  return everywhere ? group.all_reduce_async(tensor, ReduceOp::kSum) : group.reduce_scatter_async(tensor);
}

/// Starts what is ready and moves what runs. By the helper, or where there is none (any more), the caller.
GradientReducer::State GradientReducer::advance() {
  std::size_t startable = 0;
  {
    const std::lock_guard lock(mutex_);
    startable = startable_;
  }
  while (running_.size() < startable) running_.push_back(begin_bucket(running_.size()));
  State state = State::kDone;
  for (Work& work : running_)
    if (!work.test()) state = State::kRunning;
  return state;
}

void GradientReducer::help(const std::stop_token& stop) {
  try {
    while (!stop.stop_requested()) {
      const State state = advance();
      std::unique_lock lock(mutex_);
      const auto more = [this] { return startable_ > running_.size(); };
      if (state == State::kDone) {
        changed_.wait(lock, stop, more);
      } else {
        changed_.wait_for(lock, stop, kPoll, more);
      }
    }
  } catch (...) {
    fault_ = std::current_exception();
  }
}

}  // namespace sluice::parallel
