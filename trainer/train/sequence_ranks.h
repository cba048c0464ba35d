#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "parallel/bucket_groups.h"
#include "parallel/mesh.h"
#include "trainer/kernels/sequence_exchange.h"
#include "trainer/train/options.h"

namespace sluice::train {

/// What ranks stage messages in (SequenceExchange::staging): where copy engines move them, memory that is
/// mapped between the GPUs, made once for each use and kept; else the allocator's, new each time.
class StagedMemory {
 public:
  enum Use : std::size_t { kGathered, kSummed, kReceived };

  /// `ranks` outlives it.
  explicit StagedMemory(parallel::Communicator& ranks) : ranks_(ranks) {}

  /// Collective.
  [[nodiscard]] at::Tensor get(Use use, at::IntArrayRef sizes, const at::TensorOptions& options);
  /// Whether that is the memory of kSummed.
  [[nodiscard]] bool holds(const at::Tensor& tensor) const;

 private:
  parallel::Communicator& ranks_;
  std::array<at::Tensor, 3> memory_;  ///< bytes
};

/// An exchange over `ranks`, which outlive it: the model's seam onto a communicator. `memory`: that of
/// several exchanges over the same ranks; none: its own.
[[nodiscard]] std::unique_ptr<kernels::SequenceExchange> make_sequence_exchange(
    parallel::Communicator& ranks, const kernels::SequenceRows& rows, kernels::ExchangeMode mode,
    std::shared_ptr<StagedMemory> memory = {});

/// kWithNobody: the given group is one of make_null_communicator (null_communicator.h).
enum class Exchanging { kWithRanks, kWithNobody };

/// The ranks of a row as they exchange tensors of their GPUs (parallel.exchange). Collective.
[[nodiscard]] std::unique_ptr<parallel::Communicator> sequence_communicator(
    const RunOptions& options, std::unique_ptr<parallel::Communicator> row, c10::Device device,
    Exchanging exchanging = Exchanging::kWithRanks);

/// parallel.sp_mode for such a model.
[[nodiscard]] kernels::ExchangeMode exchange_mode(const RunOptions& options);

/// "alltoall", "rowshard" or "ring".
[[nodiscard]] std::string exchange_name(kernels::ExchangeMode mode);

/// The ranks of a run that share sequences with this one (parallel.sp).
class SequenceRanks {
 public:
  /// Collective; `world` outlives it, and parallel.sp divides its ranks. `device`: of the tensors that they
  /// exchange, in stream order on a GPU, which graphs may capture; such graphs go before it. Throws
  /// c10::Error for fewer positions than ranks.
  SequenceRanks(const RunOptions& options, parallel::Communicator& world, c10::Device device = at::kCPU,
                Exchanging exchanging = Exchanging::kWithRanks);

  /// None where parallel.sp is 1.
  [[nodiscard]] const kernels::SequenceExchange* exchange() const { return exchange_.get(); }
  /// Of the first `positions` alone. None where parallel.sp is 1.
  [[nodiscard]] std::unique_ptr<kernels::SequenceExchange> first(std::int64_t positions) const;
  [[nodiscard]] std::int64_t ranks() const { return mesh_ ? mesh_->sequence_ranks() : 1; }
  /// Who exchanges the buckets of a replica on `world`, the same ranks.
  [[nodiscard]] parallel::BucketGroups groups(parallel::Communicator& world) const {
    return mesh_ ? parallel::BucketGroups(world, mesh_->data()) : parallel::BucketGroups(world);
  }

 private:
  std::optional<parallel::Mesh> mesh_;
  std::shared_ptr<StagedMemory> memory_;
  std::unique_ptr<kernels::SequenceExchange> exchange_;
};

}  // namespace sluice::train
