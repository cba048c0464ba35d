#include "trainer/train/sequence_ranks.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/sum.h>
#include <c10/util/Exception.h>
#include <c10/util/accumulate.h>

#include <utility>

#include "parallel/nccl_communicator.h"
#include "parallel/null_communicator.h"

namespace sluice::train {
namespace {

class CommunicatorPassing final : public kernels::SequenceExchange::Passing {
 public:
  explicit CommunicatorPassing(parallel::Work work) : work_(std::move(work)) {}
  void wait() override { work_.wait(); }

 private:
  parallel::Work work_;
};

/// Parts that came from every rank by an all-to-all, and are to be added up.
class SummedPassing final : public kernels::SequenceExchange::Passing {
 public:
  SummedPassing(parallel::Work work, at::Tensor received, at::Tensor sum)
      : work_(std::move(work)), received_(std::move(received)), sum_(std::move(sum)) {}
  void wait() override {
    work_.wait();
    at::sum_out(sum_, received_, at::IntArrayRef{0});  // in float32, rounded once
  }

 private:
  parallel::Work work_;
  at::Tensor received_;
  at::Tensor sum_;
};

class CommunicatorExchange final : public kernels::SequenceExchange {
 public:
  CommunicatorExchange(parallel::Communicator& ranks, const kernels::SequenceRows& rows,
                       kernels::ExchangeMode mode, std::shared_ptr<StagedMemory> memory)
      : SequenceExchange(rows, mode), ranks_(ranks), memory_(std::move(memory)) {
    TORCH_CHECK(rows.ranks() == ranks.size(), "positions dealt to ", rows.ranks(), " ranks, but there are ",
                ranks.size());
  }

  [[nodiscard]] std::int64_t rank() const override { return ranks_.rank(); }
  [[nodiscard]] bool spares_cores() const override { return ranks_.has_copy_engines(); }
  [[nodiscard]] at::Tensor staging(Staging use, at::IntArrayRef sizes,
                                   const at::TensorOptions& options) const override {
    return memory_->get(use == Staging::kGathered ? StagedMemory::kGathered : StagedMemory::kSummed, sizes,
                        options);
  }
  [[nodiscard]] std::unique_ptr<Passing> start_all_gather(const at::Tensor& parts) const override {
    return std::make_unique<CommunicatorPassing>(ranks_.all_gather_async(parts));
  }
  /// Copy engines cannot add: they bring the parts, and a pass sums them.
  [[nodiscard]] std::unique_ptr<Passing> start_reduce_scatter(const at::Tensor& parts) const override {
    if (!memory_->holds(parts))
      return std::make_unique<CommunicatorPassing>(ranks_.reduce_scatter_async(parts));
    at::Tensor received = memory_->get(StagedMemory::kReceived, parts.sizes(), parts.options());
    parallel::Work work = ranks_.all_to_all_async(parts, received);
    return std::make_unique<SummedPassing>(std::move(work), std::move(received), parts.select(0, rank()));
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
  std::shared_ptr<StagedMemory> memory_;
};

}  // namespace

at::Tensor StagedMemory::get(Use use, at::IntArrayRef sizes, const at::TensorOptions& options) {
  if (!ranks_.has_copy_engines() || !options.device().is_cuda()) return at::empty(sizes, options);
  const auto type = c10::typeMetaToScalarType(options.dtype());
  const std::int64_t bytes =
      c10::multiply_integers(sizes) * static_cast<std::int64_t>(options.dtype().itemsize());
  at::Tensor& memory = memory_.at(use);
  if (!memory.defined() || memory.numel() < bytes)
    memory = ranks_.exchange_buffer(bytes, at::kByte, options.device());
  return memory.narrow(0, 0, bytes).view(type).view(sizes);
}

bool StagedMemory::holds(const at::Tensor& tensor) const {
  const at::Tensor& memory = memory_.at(kSummed);
  return memory.defined() && tensor.is_alias_of(memory);
}

std::unique_ptr<kernels::SequenceExchange> make_sequence_exchange(parallel::Communicator& ranks,
                                                                  const kernels::SequenceRows& rows,
                                                                  kernels::ExchangeMode mode,
                                                                  std::shared_ptr<StagedMemory> memory) {
  if (!memory) memory = std::make_shared<StagedMemory>(ranks);
  return std::make_unique<CommunicatorExchange>(ranks, rows, mode, std::move(memory));
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

std::unique_ptr<parallel::Communicator> sequence_communicator(const RunOptions& options,
                                                              std::unique_ptr<parallel::Communicator> row,
                                                              c10::Device device, Exchanging exchanging) {
  const auto engines = options.parallel.exchange == "kernels" ? parallel::Movers::kNcclKernels
                                                              : parallel::Movers::kCopyEngines;
  if (exchanging == Exchanging::kWithNobody)
    return parallel::make_null_communicator(std::move(row), device, engines);
  return parallel::make_nccl_communicator(std::move(row), device, {.movers = engines});
}

SequenceRanks::SequenceRanks(const RunOptions& options, parallel::Communicator& world, c10::Device device,
                             Exchanging exchanging) {
  if (options.parallel.sp == 1) return;
  const auto split = [&](parallel::Communicator& all, std::int64_t part, parallel::Mesh::Line line) {
    std::unique_ptr<parallel::Communicator> group = all.split(part);
    if (device.is_cpu()) return group;
    if (line == parallel::Mesh::Line::kSequence)
      return sequence_communicator(options, std::move(group), device, exchanging);
    return exchanging == Exchanging::kWithNobody ? std::move(group)
                                                 : parallel::make_nccl_communicator(std::move(group), device);
  };
  mesh_.emplace(world, options.parallel.sp, split);
  memory_ = std::make_shared<StagedMemory>(mesh_->sequence());
  const std::int64_t positions = options.model.seq_len;
  const kernels::SequenceRows rows(positions, options.parallel.sp,
                                   kernels::sequence_tile(positions, options.parallel.sp));
  exchange_ = make_sequence_exchange(mesh_->sequence(), rows, exchange_mode(options), memory_);
}

std::unique_ptr<kernels::SequenceExchange> SequenceRanks::first(std::int64_t positions) const {
  if (!mesh_) return nullptr;
  return make_sequence_exchange(mesh_->sequence(), exchange_->rows().first(positions), exchange_->mode(),
                                memory_);
}

}  // namespace sluice::train
