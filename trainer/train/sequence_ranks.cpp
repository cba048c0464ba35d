#include "trainer/train/sequence_ranks.h"

#include <ATen/ops/empty_like.h>
#include <c10/util/Exception.h>

#include <utility>

#include "parallel/nccl_communicator.h"

namespace sluice::train {
namespace {

class CommunicatorPassing final : public kernels::SequenceExchange::Passing {
 public:
  explicit CommunicatorPassing(parallel::Work work) : work_(std::move(work)) {}
  void wait() override { work_.wait(); }

 private:
  parallel::Work work_;
};

class CommunicatorExchange final : public kernels::SequenceExchange {
 public:
  CommunicatorExchange(parallel::Communicator& ranks, const kernels::SequenceRows& rows,
                       kernels::ExchangeMode mode)
      : SequenceExchange(rows, mode), ranks_(ranks) {
    TORCH_CHECK(rows.ranks() == ranks.size(), "positions dealt to ", rows.ranks(), " ranks, but there are ",
                ranks.size());
  }

  [[nodiscard]] std::int64_t rank() const override { return ranks_.rank(); }
  [[nodiscard]] std::unique_ptr<Passing> start_all_gather(const at::Tensor& parts) const override {
    return std::make_unique<CommunicatorPassing>(ranks_.all_gather_async(parts));
  }
  [[nodiscard]] std::unique_ptr<Passing> start_reduce_scatter(const at::Tensor& parts) const override {
    return std::make_unique<CommunicatorPassing>(ranks_.reduce_scatter_async(parts));
  }
  [[nodiscard]] at::Tensor all_to_all(const at::Tensor& send) const override {
    at::Tensor received = at::empty_like(send);
    ranks_.all_to_all_async(send, received).wait();
    return received;
  }
  [[nodiscard]] std::unique_ptr<Passing> pass(const at::Tensor& send, std::int64_t to,
                                              const at::Tensor& receive, std::int64_t from) const override {
    return std::make_unique<CommunicatorPassing>(ranks_.exchange_async(send, to, receive, from));
  }

 private:
  parallel::Communicator& ranks_;
};

}  // namespace

std::unique_ptr<kernels::SequenceExchange> make_sequence_exchange(parallel::Communicator& ranks,
                                                                  const kernels::SequenceRows& rows,
                                                                  kernels::ExchangeMode mode) {
  return std::make_unique<CommunicatorExchange>(ranks, rows, mode);
}

kernels::ExchangeMode exchange_mode(const RunOptions& options) {
  using enum kernels::ExchangeMode;
  const std::string& mode = options.parallel.sp_mode;
  if (mode == "alltoall") return kAllToAll;
  if (mode == "rowshard") return kRowShard;
  if (mode == "ring") return kRing;
  TORCH_CHECK(mode == "auto", "parallel.sp_mode is ", mode,
              ", allowed are auto, alltoall, rowshard and ring");
  if (options.model.kind == "transformer")
    return options.model.heads % options.parallel.sp == 0 ? kAllToAll : kRowShard;
  return options.model.spatial_heads > 1 ? kRing : kAllToAll;
}

std::string exchange_name(kernels::ExchangeMode mode) {
  switch (mode) {
    case kernels::ExchangeMode::kAllToAll:
      return "alltoall";
    case kernels::ExchangeMode::kRowShard:
      return "rowshard";
    case kernels::ExchangeMode::kRing:
      return "ring";
  }
  TORCH_CHECK(false, "an exchange of value ", static_cast<int>(mode));
}

SequenceRanks::SequenceRanks(const RunOptions& options, parallel::Communicator& world, c10::Device device,
                             Exchanging exchanging) {
  if (options.parallel.sp == 1) return;
  const bool by_nccl = !device.is_cpu() && exchanging == Exchanging::kWithRanks;
  mesh_.emplace(world, options.parallel.sp, [&](parallel::Communicator& all, std::int64_t part) {
    std::unique_ptr<parallel::Communicator> group = all.split(part);
    return by_nccl ? parallel::make_nccl_communicator(std::move(group), device) : std::move(group);
  });
  const std::int64_t positions = options.model.seq_len;
  const kernels::SequenceRows rows(positions, options.parallel.sp,
                                   kernels::sequence_tile(positions, options.parallel.sp));
  exchange_ = make_sequence_exchange(mesh_->sequence(), rows, exchange_mode(options));
}

std::unique_ptr<kernels::SequenceExchange> SequenceRanks::first(std::int64_t positions) const {
  if (!mesh_) return nullptr;
  return make_sequence_exchange(mesh_->sequence(), exchange_->rows().first(positions), exchange_->mode());
}

}  // namespace sluice::train
