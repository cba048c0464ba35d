#include <ATen/ops/empty_like.h>

#include <algorithm>

#include "parallel/side_stream.h"
#include "trainer/train/sequence_ranks.h"

namespace sluice::train {
namespace {

using kernels::SequenceExchange;

/// As much of `from` as there is room for in `to`; the rest of it is zero.
void fill_from(const at::Tensor& to, const at::Tensor& from) {
  const at::Tensor room = to.flatten();
  const std::int64_t count = std::min(room.numel(), from.numel());
  room.narrow(0, 0, count).copy_(from.flatten().narrow(0, 0, count));
  room.narrow(0, count, room.numel() - count).zero_();
}

class NullPassing final : public SequenceExchange::Passing {
 public:
  explicit NullPassing(parallel::SideStream& beside) : beside_(beside) {}
  void wait() override { beside_.join(); }

 private:
  parallel::SideStream& beside_;
};

class NullExchange final : public SequenceExchange {
 public:
  NullExchange(std::int64_t rank, const kernels::SequenceRows& rows, kernels::ExchangeMode mode,
               c10::Device device)
      : SequenceExchange(rows, mode), rank_(rank), beside_(device) {}

  [[nodiscard]] std::int64_t rank() const override { return rank_; }
  void all_gather(const at::Tensor& parts) const override {
    for_others([&](std::int64_t other) { parts.select(0, other).copy_(parts.select(0, rank_)); });
  }
  void reduce_scatter(const at::Tensor& parts) const override {
    for_others([&](std::int64_t other) { parts.select(0, rank_).add_(parts.select(0, other)); });
  }
  [[nodiscard]] at::Tensor all_to_all(const at::Tensor& send) const override {
    at::Tensor received = at::empty_like(send);
    beside_.run([&] { received.copy_(send); });
    beside_.join();
    return received;
  }
  [[nodiscard]] std::unique_ptr<Passing> pass(const at::Tensor& send, std::int64_t /*to*/,
                                              const at::Tensor& receive,
                                              std::int64_t /*from*/) const override {
    beside_.run([&] { fill_from(receive, send); });
    return std::make_unique<NullPassing>(beside_);
  }

 private:
  template <typename Visit>
  void for_others(const Visit& visit) const {
    beside_.run([&] {
      for (std::int64_t other = 0; other < rows().ranks(); ++other)
        if (other != rank_) visit(other);
    });
    beside_.join();
  }

  std::int64_t rank_;
  mutable parallel::SideStream beside_;
};

}  // namespace

std::unique_ptr<SequenceExchange> make_null_exchange(std::int64_t rank, const kernels::SequenceRows& rows,
                                                     kernels::ExchangeMode mode, c10::Device device) {
  return std::make_unique<NullExchange>(rank, rows, mode, device);
}

}  // namespace sluice::train
