#include "parallel/thread_communicator.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>
#include <utility>

#include "parallel/agree.h"
#include "parallel/fold.h"

namespace sluice::parallel {
namespace {

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

void sum_up(Exchange& exchange, ReduceOp op) {
  const at::Tensor first = exchange.posts[0]->tensor;
  const std::int64_t count = first.numel();
  if (count == 0) return;
  for (std::size_t rank = 1; rank < exchange.posts.size(); ++rank)
    fold(first.data_ptr(), exchange.posts[rank]->tensor.data_ptr(), count, first.scalar_type(), op);
  for (std::size_t rank = 1; rank < exchange.posts.size(); ++rank)
    std::memcpy(exchange.posts[rank]->tensor.data_ptr(), first.data_ptr(), first.nbytes());
}

/// Where chunk `index` of a tensor of `ranks` chunks begins.
std::byte* chunk_of(const at::Tensor& tensor, std::size_t ranks, std::size_t index) {
  return static_cast<std::byte*>(tensor.data_ptr()) + tensor.nbytes() / ranks * index;
}

void sum_up_chunks(Exchange& exchange) {
  const std::size_t ranks = exchange.posts.size();
  const at::Tensor first = exchange.posts[0]->tensor;
  const std::int64_t count = first.numel() / static_cast<std::int64_t>(ranks);
  if (count == 0) return;
  for (std::size_t owner = 0; owner < ranks; ++owner) {
    std::byte* sum = chunk_of(first, ranks, owner);
    for (std::size_t rank = 1; rank < ranks; ++rank)
      fold(sum, chunk_of(exchange.posts[rank]->tensor, ranks, owner), count, first.scalar_type(),
           ReduceOp::kSum);
    if (owner > 0)
      std::memcpy(chunk_of(exchange.posts[owner]->tensor, ranks, owner), sum, first.nbytes() / ranks);
  }
}

void gather_chunks(Exchange& exchange) {
  const std::size_t ranks = exchange.posts.size();
  const std::size_t bytes = exchange.posts[0]->tensor.nbytes() / ranks;
  if (bytes == 0) return;
  for (std::size_t owner = 0; owner < ranks; ++owner)
    for (std::size_t rank = 0; rank < ranks; ++rank)
      if (rank != owner)
        std::memcpy(chunk_of(exchange.posts[rank]->tensor, ranks, owner),
                    chunk_of(exchange.posts[owner]->tensor, ranks, owner), bytes);
}

void transpose_chunks(Exchange& exchange) {
  const std::size_t ranks = exchange.posts.size();
  const std::size_t bytes = exchange.posts[0]->tensor.nbytes() / ranks;
  if (bytes == 0) return;
  for (std::size_t from = 0; from < ranks; ++from)
    for (std::size_t to = 0; to < ranks; ++to)
      std::memcpy(chunk_of(exchange.posts[to]->receive, ranks, from),
                  chunk_of(exchange.posts[from]->tensor, ranks, to), bytes);
}

void deliver(Exchange& exchange) {
  for (const auto& post : exchange.posts) {
    const at::Tensor& target = exchange.posts[post->to]->receive;
    TORCH_CHECK(target.nbytes() == post->tensor.nbytes(), "exchange_async: ", post->tensor.nbytes(),
                " bytes sent to rank ", post->to, ", which receives ", target.nbytes());
    if (target.nbytes() > 0) std::memcpy(target.data_ptr(), post->tensor.const_data_ptr(), target.nbytes());
  }
}

class ThreadHandle : public Work::Handle {
 public:
  ThreadHandle(Group& group, std::shared_ptr<Exchange> exchange)
      : group_(group), exchange_(std::move(exchange)) {}
  bool test() override { return group_.test(*exchange_); }
  void wait() override { group_.wait(*exchange_); }

 private:
  Group& group_;
  std::shared_ptr<Exchange> exchange_;
};

std::string signature(const char* operation, const at::Tensor& tensor, std::int64_t detail) {
  std::ostringstream text;
  text << operation << ' ' << tensor.scalar_type() << tensor.sizes() << ' ' << detail;
  return text.str();
}

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Group> group, std::size_t rank)
      : shared_(std::move(group)), group_(*shared_), rank_(rank) {}

  [[nodiscard]] std::int64_t rank() const override { return static_cast<std::int64_t>(rank_); }
  [[nodiscard]] std::int64_t size() const override { return static_cast<std::int64_t>(group_.size()); }
  [[nodiscard]] std::string name() const override { return "thread"; }
  [[noreturn]] void abort(int exit_code) override {
    const std::string reason =
        "rank " + std::to_string(rank_) + " aborted the job with exit code " + std::to_string(exit_code);
    group_.fail(reason);
    throw std::runtime_error(reason);
  }

 private:
  std::unique_ptr<Work::Handle> do_all_reduce(const at::Tensor& tensor, ReduceOp op) override {
    return start({signature("all_reduce", tensor, static_cast<std::int64_t>(op)), tensor, {}},
                 [op](Exchange& exchange) { sum_up(exchange, op); });
  }

  std::unique_ptr<Work::Handle> do_reduce_scatter(const at::Tensor& tensor) override {
    return start({signature("reduce_scatter", tensor, 0), tensor, {}}, sum_up_chunks);
  }

  std::unique_ptr<Work::Handle> do_all_gather_tensor(const at::Tensor& tensor) override {
    return start({signature("all_gather", tensor, 0), tensor, {}}, gather_chunks);
  }

  std::unique_ptr<Work::Handle> do_all_to_all(const at::Tensor& send, const at::Tensor& receive) override {
    return start({signature("all_to_all", send, 0), send, {}, receive}, transpose_chunks);
  }

  std::unique_ptr<Work::Handle> do_exchange(const at::Tensor& send, std::int64_t to,
                                            const at::Tensor& receive, std::int64_t /*from*/) override {
    return start({"exchange", send, {}, receive, static_cast<std::size_t>(to)}, deliver);
  }

  std::unique_ptr<Communicator> do_split(std::int64_t part) override {
    const std::vector<std::string> parts = do_all_gather(std::to_string(part));
    std::vector<std::size_t> members;
    for (std::size_t other = 0; other < parts.size(); ++other)
      if (parts[other] == parts[rank_]) members.push_back(other);
    const auto own = static_cast<std::size_t>(std::ranges::find(members, rank_) - members.begin());
    return std::make_unique<ThreadCommunicator>(group_.part(splits_++, part, std::move(members)), own);
  }

  void do_broadcast(const at::Tensor& tensor, std::int64_t root) override {
    run({signature("broadcast", tensor, root), tensor, {}}, [root](Exchange& exchange) {
      const at::Tensor source = exchange.posts[static_cast<std::size_t>(root)]->tensor;
      for (auto& post : exchange.posts)
        if (source.nbytes() > 0 && !post->tensor.is_same(source))
          std::memmove(post->tensor.data_ptr(), source.data_ptr(), source.nbytes());
    });
  }

  std::string do_broadcast_bytes(std::string bytes, std::int64_t root) override {
    const auto exchange = run({"broadcast of bytes from " + std::to_string(root), {}, std::move(bytes)});
    return exchange->posts[static_cast<std::size_t>(root)]->bytes;
  }

  std::vector<std::string> do_all_gather(std::string_view bytes) override {
    const auto exchange = run({"all_gather of bytes", {}, std::string(bytes)});
    std::vector<std::string> all;
    for (const auto& post : exchange->posts) all.push_back(post->bytes);
    return all;
  }

  void do_barrier() override { run({"barrier", {}, {}}); }
  void do_publish(std::int64_t sequence) override { group_.publish(rank_, sequence); }
  [[nodiscard]] std::vector<std::int64_t> do_published() const override { return group_.published(); }

  std::unique_ptr<Work::Handle> start(Post post, const Complete& complete) {
    return std::make_unique<ThreadHandle>(group_, group_.join(rank_, std::move(post), complete));
  }

  std::shared_ptr<Exchange> run(
      Post post, const Complete& complete = [](Exchange&) {}) {
    auto exchange = group_.join(rank_, std::move(post), complete);
    group_.wait(*exchange);
    return exchange;
  }

  std::shared_ptr<Group> shared_;
  Group& group_;
  std::size_t rank_;
  std::int64_t splits_ = 0;
};

struct Outcome {
  std::exception_ptr own;    ///< thrown by the rank's body
  std::exception_ptr woken;  ///< thrown because of another rank
};

Outcome run_rank(const std::shared_ptr<Group>& group, std::size_t rank,
                 const std::function<void(Communicator&)>& body) {
  Outcome outcome;
  try {
    ThreadCommunicator communicator(group, rank);
    body(communicator);
    group->leave(rank);
  } catch (const GroupBroken& broken) {
    outcome.woken = std::current_exception();
    group->fail(broken.what());
  } catch (const std::exception& error) {
    outcome.own = std::current_exception();
    group->fail("rank " + std::to_string(rank) + " threw: " + error.what());
  } catch (...) {
    outcome.own = std::current_exception();
    group->fail("rank " + std::to_string(rank) + " threw");
  }
  return outcome;
}

}  // namespace

void run_thread_ranks(std::int64_t ranks, const std::function<void(Communicator&)>& body) {
  TORCH_CHECK(ranks >= 1, "a group has at least 1 rank, got ", ranks);
  const auto count = static_cast<std::size_t>(ranks);
  const auto group = std::make_shared<Group>(count);
  std::vector<Outcome> outcomes(count);
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < count; ++rank)
    threads.emplace_back([&, rank] { outcomes[rank] = run_rank(group, rank, body); });
  for (std::thread& thread : threads) thread.join();
  for (const Outcome& outcome : outcomes)
    if (outcome.own) std::rethrow_exception(outcome.own);
  for (const Outcome& outcome : outcomes)
    if (outcome.woken) std::rethrow_exception(outcome.woken);
}

}  // namespace sluice::parallel
