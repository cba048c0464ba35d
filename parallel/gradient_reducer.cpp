#include "parallel/gradient_reducer.h"

#include <c10/util/Exception.h>

#include <chrono>
#include <utility>

namespace sluice::parallel {
namespace {

std::size_t at_index(std::int64_t value) { return static_cast<std::size_t>(value); }

}  // namespace

GradientReducer::GradientReducer(const ArenaLayout& layout, at::Tensor gradients, Communicator& communicator,
                                 std::int64_t bucket_elements)
    : layout_(layout),
      gradients_(std::move(gradients)),
      communicator_(communicator),
      buckets_(plan_buckets(layout, bucket_elements)),
      bucket_of_entry_(layout.entries().size()) {
  TORCH_CHECK(gradients_.dim() == 1 && gradients_.size(0) == layout.size(), "the gradient arena has ",
              layout.size(), " elements, got sizes ", gradients_.sizes());
  for (std::size_t bucket = 0; bucket < buckets_.size(); ++bucket)
    for (std::int64_t entry = buckets_[bucket].first_entry; entry < buckets_[bucket].last_entry; ++entry)
      bucket_of_entry_[at_index(entry)] = static_cast<std::int64_t>(bucket);
}

void GradientReducer::start() {
  TORCH_CHECK(!active_, "GradientReducer: started twice without finish()");
  active_ = true;
  ready_.assign(layout_.entries().size(), false);
  missing_.clear();
  for (const Bucket& bucket : buckets_) missing_.push_back(bucket.last_entry - bucket.first_entry);
  running_.clear();
}

void GradientReducer::mark_ready(std::int64_t entry) {
  TORCH_CHECK(active_, "GradientReducer: entry ", entry, " is ready before start()");
  TORCH_CHECK(entry >= 0 && at_index(entry) < ready_.size(), "GradientReducer: there are ", ready_.size(),
              " entries, got ", entry);
  TORCH_CHECK(!ready_[at_index(entry)], "GradientReducer: entry ", entry, " (",
              layout_.entries()[at_index(entry)].name, ") is ready twice");
  ready_[at_index(entry)] = true;
  --missing_[at_index(bucket_of_entry_[at_index(entry)])];
  while (running_.size() < buckets_.size() && missing_[running_.size()] == 0) {
    const Bucket& bucket = buckets_[running_.size()];
    running_.push_back(communicator_.all_reduce_async(
        gradients_.narrow(0, bucket.begin, bucket.end - bucket.begin), ReduceOp::kSum));
  }
  progress();
}

void GradientReducer::progress() {
  TORCH_CHECK(active_, "GradientReducer: progress() outside start() and finish()");
  for (Work& work : running_) work.test();
}

double GradientReducer::finish() {
  TORCH_CHECK(active_, "GradientReducer: finish() without start()");
  for (std::size_t entry = 0; entry < ready_.size(); ++entry)
    TORCH_CHECK(ready_[entry], "GradientReducer: entry ", entry, " (", layout_.entries()[entry].name,
                ") was never ready");
  const auto begin = std::chrono::steady_clock::now();
  for (Work& work : running_) work.wait();
  running_.clear();
  active_ = false;
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace sluice::parallel
