#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "parallel/agree.h"

// Where the threads of thread_communicator.cpp, which alone includes this, meet.
namespace sluice::parallel::threads {

/// What a rank throws because of another one; never the root cause.
class GroupBroken : public PeerError {
 public:
  using PeerError::PeerError;
};

/// One rank's part in one operation.
struct Post {
  std::string signature;  ///< equal on all ranks, or they are out of step
  at::Tensor tensor;
  std::string bytes;
  at::Tensor receive{};  ///< all_to_all and exchange alone
  std::size_t to = 0;    ///< exchange alone
};

/// One operation of all ranks.
struct Exchange {
  explicit Exchange(std::size_t ranks) : posts(ranks) {}
  std::vector<std::optional<Post>> posts;
  std::size_t arrived = 0;
  bool done = false;
};

/// What the last rank to arrive does for all.
using Complete = std::function<void(Exchange&)>;

class Group {
 public:
  explicit Group(std::size_t ranks) : joined_(ranks, 0), returned_(ranks, false), published_(ranks) {}

  std::shared_ptr<Exchange> join(std::size_t rank, Post post, const Complete& complete) {
    const std::lock_guard lock(mutex_);
    check_alive();
    auto& slot = open_[joined_[rank]++];
    if (!slot) slot = std::make_shared<Exchange>(joined_.size());
    const auto exchange = slot;
    exchange->posts[rank] = std::move(post);
    if (++exchange->arrived == joined_.size()) {
      open_.erase(open_.begin());  // ranks join in order, so the oldest completes first
      finish(*exchange, complete);
    }
    return exchange;
  }

  bool test(const Exchange& exchange) {
    const std::lock_guard lock(mutex_);
    if (!exchange.done) check_reachable(exchange);
    return exchange.done;
  }

  void wait(const Exchange& exchange) {
    std::unique_lock lock(mutex_);
    while (!exchange.done) {
      check_reachable(exchange);
      changed_.wait(lock);
    }
  }

  void fail(const std::string& reason) {
    const std::lock_guard lock(mutex_);
    if (failure_.empty()) failure_ = reason;
    changed_.notify_all();
    for (const auto& [key, part] : parts_) part.group->fail(reason);
  }

  void leave(std::size_t rank) {
    const std::lock_guard lock(mutex_);
    returned_[rank] = true;
    changed_.notify_all();
    for (const auto& [key, part] : parts_)
      if (const auto found = std::ranges::find(part.members, rank); found != part.members.end())
        part.group->leave(static_cast<std::size_t>(found - part.members.begin()));
  }

  /// The group of `members` that the split number `split` makes, one for all who ask.
  std::shared_ptr<Group> part(std::int64_t split, std::int64_t number, std::vector<std::size_t> members) {
    const std::lock_guard lock(mutex_);
    check_alive();
    Part& part = parts_[{split, number}];
    if (!part.group) part = {std::make_shared<Group>(members.size()), std::move(members)};
    return part.group;
  }

  void publish(std::size_t rank, std::int64_t sequence) { published_[rank].store(sequence); }
  [[nodiscard]] std::vector<std::int64_t> published() const { return {published_.begin(), published_.end()}; }
  [[nodiscard]] std::size_t size() const { return joined_.size(); }

 private:
  void check_alive() const {
    if (!failure_.empty()) throw GroupBroken(failure_);
  }

  void check_reachable(const Exchange& exchange) const {
    check_alive();
    for (std::size_t rank = 0; rank < returned_.size(); ++rank)
      if (returned_[rank] && !exchange.posts[rank])
        throw GroupBroken("rank " + std::to_string(rank) +
                          " returned without joining an operation of the others");
  }

  void finish(Exchange& exchange, const Complete& complete) {
    for (std::size_t rank = 1; rank < exchange.posts.size(); ++rank)
      if (exchange.posts[rank]->signature != exchange.posts[0]->signature && failure_.empty())
        failure_ = "ranks called different operations: rank 0 " + exchange.posts[0]->signature + ", rank " +
                   std::to_string(rank) + " " + exchange.posts[rank]->signature;
    if (failure_.empty()) {
      complete(exchange);
      exchange.done = true;
    }
    changed_.notify_all();
    check_alive();
  }

  struct Part {
    std::shared_ptr<Group> group;
    std::vector<std::size_t> members;  ///< ranks of this group, in order
  };

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<std::int64_t, std::int64_t>, Part> parts_;  ///< by split and part
  std::map<std::int64_t, std::shared_ptr<Exchange>> open_;
  std::vector<std::int64_t> joined_;  ///< operations that each rank has joined
  std::vector<bool> returned_;
  std::vector<std::atomic<std::int64_t>> published_;
  std::string failure_;
};

}  // namespace sluice::parallel::threads
