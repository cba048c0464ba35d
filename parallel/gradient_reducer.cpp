#include "parallel/gradient_reducer.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace sluice::parallel {
namespace {

using Clock = std::chrono::steady_clock;

/// How often the helper calls into MPI while something runs: rarely enough to cost a core nothing that shows.
constexpr std::chrono::microseconds kPoll{100};

std::size_t at_index(std::int64_t value) { return static_cast<std::size_t>(value); }

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

GradientReducer::GradientReducer(const ArenaLayout& layout, const at::Tensor& gradients,
                                 Communicator& communicator, const ReducerOptions& options)
    : layout_(layout),
      communicator_(communicator),
      options_(options),
      bucket_of_entry_(layout.entries().size()) {
  // On a GPU the exchange moves by itself.
  if (communicator.size() == 1 || !gradients.is_cpu()) options_.progress = ReducerProgress::kCaller;
  TORCH_CHECK(options_.mode == ReduceMode::kAllReduce || layout.world() == communicator.size(),
              "the arena has slices for ", layout.world(), " ranks, the communicator has ",
              communicator.size());
  for (std::size_t index = 0; index < layout.buckets().size(); ++index) {
    const Bucket& bucket = layout.buckets()[index];
    tensors_.push_back(layout.bucket_view(gradients, static_cast<std::int64_t>(index)));
    for (std::int64_t entry = bucket.first_entry; entry < bucket.last_entry; ++entry)
      bucket_of_entry_[at_index(entry)] = static_cast<std::int64_t>(index);
  }
  const bool by_copy_engines =
      communicator.has_copy_engines() && !gradients.is_cpu() && gradients.scalar_type() == at::kFloat;
  if (communicator.size() == 1 || (options_.wire == at::kFloat && !by_copy_engines)) return;
  std::int64_t largest = 0;
  for (const at::Tensor& tensor : tensors_) largest = std::max(largest, tensor.numel());
  ordered_.emplace(communicator, largest, options_.wire, gradients.device());
}

void GradientReducer::start() {
  TORCH_CHECK(!active_, "GradientReducer: started twice without finish()");
  active_ = true;
  exposed_s_ = 0;
  startable_ = 0;
  running_.clear();
  ready_.assign(layout_.entries().size(), false);
  missing_.clear();
  for (const Bucket& bucket : layout_.buckets()) missing_.push_back(bucket.last_entry - bucket.first_entry);
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

double GradientReducer::finish() {
  TORCH_CHECK(active_, "GradientReducer: finish() without start()");
  for (std::size_t entry = 0; entry < ready_.size(); ++entry)
    TORCH_CHECK(ready_[entry], "GradientReducer: entry ", entry, " (", layout_.entries()[entry].name,
                ") was never ready");
  const auto begin = Clock::now();
  if (helper_.joinable()) {
    helper_.request_stop();
    helper_.join();
  }
  if (fault_) std::rethrow_exception(fault_);
  advance();
  for (Work& work : running_) work.wait();
  running_.clear();
  if (options_.mode == ReduceMode::kReduceScatterAllGather) {
    for (const at::Tensor& tensor : tensors_) running_.push_back(communicator_.all_gather_async(tensor));
    for (Work& work : running_) work.wait();
    running_.clear();
  }
  active_ = false;
  return exposed_s_ + seconds_since(begin);
}

Work GradientReducer::begin_bucket(std::size_t index) {
  const at::Tensor& tensor = tensors_[index];
  const bool everywhere = options_.mode == ReduceMode::kAllReduce;
  if (ordered_)
    return everywhere ? ordered_->all_reduce_async(tensor) : ordered_->reduce_scatter_async(tensor);
  return everywhere ? communicator_.all_reduce_async(tensor, ReduceOp::kSum)
                    : communicator_.reduce_scatter_async(tensor);
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
