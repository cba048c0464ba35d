#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace sluice::dataio {

/// produce() -> work() -> consume(), with work() on `jobs` threads at once and consume() on the calling
/// thread in the order of produce(), which is called by one thread at a time. At most 2 jobs + 2 items are on
/// their way. The first error in that order is rethrown when all threads have ended, so that neither results
/// nor errors depend on `jobs`.
template <typename In, typename Out>
class OrderedPipeline {
 public:
  OrderedPipeline(std::function<std::optional<In>()> produce, std::function<Out(In)> work)
      : produce_(std::move(produce)), work_(std::move(work)) {}

  void run(std::int64_t jobs, const std::function<void(Out)>& consume) {
    window_ = 2 * jobs + 2;
    std::vector<std::jthread> threads;
    const Stopper stopper{*this, threads};
    for (std::int64_t j = 0; j < jobs; ++j) threads.emplace_back([this] { work_until_done(); });
    while (auto slot = take_next()) {
      if (slot->error) std::rethrow_exception(slot->error);
      consume(std::move(*slot->value));
    }
  }

 private:
  struct Slot {
    std::optional<Out> value;
    std::exception_ptr error;
  };

  struct Task {
    std::int64_t number = 0;
    std::optional<In> input;
    std::exception_ptr error;
  };

  /// Whatever ends run(), the threads are told and waited for.
  struct Stopper {
    OrderedPipeline& pipeline;
    std::vector<std::jthread>& threads;
    ~Stopper() {
      {
        const std::lock_guard lock(pipeline.mutex_);
        pipeline.ended_ = true;
      }
      pipeline.changed_.notify_all();
      threads.clear();
    }
  };

  void work_until_done() {
    while (auto task = next_task()) {
      Slot slot{std::nullopt, task->error};
      if (task->input) {
        try {
          slot.value.emplace(work_(std::move(*task->input)));
        } catch (...) {
          slot.error = std::current_exception();
        }
      }
      {
        const std::lock_guard lock(mutex_);
        done_.emplace(task->number, std::move(slot));
      }
      changed_.notify_all();
    }
  }

  std::optional<Task> next_task() {
    const std::lock_guard producing(producing_);
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return ended_ || produced_ - consumed_ < window_; });
      if (ended_) return std::nullopt;
    }
    Task task;
    try {
      task.input = produce_();
    } catch (...) {
      task.error = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    if (!task.input) ended_ = true;
    if (!task.input && !task.error) {
      changed_.notify_all();
      return std::nullopt;
    }
    task.number = produced_++;
    return task;
  }

  std::optional<Slot> take_next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return done_.contains(consumed_) || (ended_ && consumed_ == produced_); });
    auto node = done_.extract(consumed_);
    if (node.empty()) return std::nullopt;
    ++consumed_;
    lock.unlock();
    changed_.notify_all();
    return std::move(node.mapped());
  }

  std::function<std::optional<In>()> produce_;
  std::function<Out(In)> work_;
  std::int64_t window_ = 0;
  std::mutex producing_;
  std::mutex mutex_;  ///< guards what follows
  std::condition_variable changed_;
  std::map<std::int64_t, Slot> done_;
  std::int64_t produced_ = 0;
  std::int64_t consumed_ = 0;
  bool ended_ = false;
};

}  // namespace sluice::dataio
