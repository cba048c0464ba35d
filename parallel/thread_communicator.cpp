#include "parallel/thread_communicator.h"

#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <sstream>
#include <thread>
#include <utility>

#include "parallel/fold.h"
#include "parallel/thread_group.h"

namespace sluice::parallel {
namespace {

using threads::Complete;
using threads::Exchange;
using threads::Group;
using threads::GroupBroken;
using threads::Post;

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

/// An all-to-all that sets down what has come in places of its own.
class DealHandle : public Work::Handle {
 public:
  DealHandle(std::unique_ptr<Work::Handle> dealt, std::vector<at::Tensor> received,
             std::vector<at::Tensor> places)
      : dealt_(std::move(dealt)), received_(std::move(received)), places_(std::move(places)) {}
  bool test() override {
    if (!dealt_->test()) return false;
    wait();
    return true;
  }
  void wait() override {
    dealt_->wait();
    for (std::size_t from = 0; from < places_.size(); ++from)
      if (places_[from].defined()) places_[from].copy_(received_[from].view_as(places_[from]));
    places_.clear();
  }

 private:
  std::unique_ptr<Work::Handle> dealt_;
  std::vector<at::Tensor> received_;
  std::vector<at::Tensor> places_;  ///< none once they have it
};

std::string signature(const char* operation, const at::Tensor& tensor, std::int64_t detail) {
  std::ostringstream text;
  text << operation << ' ' << tensor.scalar_type() << tensor.sizes() << ' ' << detail;
  return text.str();
}

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Group> group, std::size_t rank, Reach reach)
      : shared_(std::move(group)), group_(*shared_), rank_(rank), reach_(reach) {}

  [[nodiscard]] std::int64_t rank() const override { return static_cast<std::int64_t>(rank_); }
  [[nodiscard]] std::int64_t size() const override { return static_cast<std::int64_t>(group_.size()); }
  [[nodiscard]] std::string name() const override { return "thread"; }
  [[nodiscard]] bool has_peer_memory() const override { return reach_ == Reach::kPeerMemory && size() > 1; }
  [[nodiscard]] bool has_host_memory() const override { return reach_ == Reach::kHostMemory && size() > 1; }
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

  std::unique_ptr<Work::Handle> do_deal(const at::Tensor& send,
                                        const std::vector<at::Tensor>& receive) override {
    const at::Tensor received = at::zeros_like(send);
    std::vector<at::Tensor> places = receive;
    places[rank_] = at::Tensor();
    return std::make_unique<DealHandle>(do_all_to_all(send, received), received.view({-1}).chunk(size()),
                                        std::move(places));
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
    return std::make_unique<ThreadCommunicator>(group_.part(splits_++, part, std::move(members)), own,
                                                reach_);
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

  at::Tensor do_exchange_buffer(std::int64_t elements, at::ScalarType dtype, at::Device device) override {
    at::Tensor own = at::zeros({elements}, at::TensorOptions().dtype(dtype).device(device));
    if (!has_peer_memory()) return own;
    const auto exchange = run({signature("exchange_buffer", own, 0), own, {}});
    std::vector<at::Tensor>& buffers = buffers_.emplace_back();
    for (const auto& post : exchange->posts) buffers.push_back(post->tensor);
    return own;
  }
  [[nodiscard]] std::vector<at::Tensor> do_peer_views(const at::Tensor& part) const override {
    std::vector<at::Tensor> views;
    for (const auto& buffers : buffers_)
      for (std::size_t other = 0; buffers[rank_].is_alias_of(part) && other < buffers.size(); ++other)
        if (other != rank_)
          views.push_back(buffers[other].as_strided(part.sizes(), part.strides(), part.storage_offset()));
    return views;
  }
  std::unique_ptr<Work::Handle> do_meet() override {
    return start({"meet", {}, {}}, [](Exchange&) {});
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
  Reach reach_;
  std::vector<std::vector<at::Tensor>> buffers_;  ///< exchange buffers, each of all ranks
  std::int64_t splits_ = 0;
};

struct Outcome {
  std::exception_ptr own;    ///< thrown by the rank's body
  std::exception_ptr woken;  ///< thrown because of another rank
};

Outcome run_rank(const std::shared_ptr<Group>& group, std::size_t rank,
                 const std::function<void(Communicator&)>& body, Reach reach) {
  Outcome outcome;
  try {
    ThreadCommunicator communicator(group, rank, reach);
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

void run_thread_ranks(std::int64_t ranks, const std::function<void(Communicator&)>& body, Reach reach) {
  TORCH_CHECK(ranks >= 1, "a group has at least 1 rank, got ", ranks);
  const auto count = static_cast<std::size_t>(ranks);
  const auto group = std::make_shared<Group>(count);
  std::vector<Outcome> outcomes(count);
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < count; ++rank)
    threads.emplace_back([&, rank] { outcomes[rank] = run_rank(group, rank, body, reach); });
  for (std::thread& thread : threads) thread.join();
  for (const Outcome& outcome : outcomes)
    if (outcome.own) std::rethrow_exception(outcome.own);
  for (const Outcome& outcome : outcomes)
    if (outcome.woken) std::rethrow_exception(outcome.woken);
}

}  // namespace sluice::parallel
