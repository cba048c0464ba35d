#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace sluice::parallel {

/// Replicas of one buffer hold different bits.
class ReplicaDrift : public std::runtime_error {
 public:
  ReplicaDrift(const std::string& what, std::vector<std::int64_t> ranks)
      : std::runtime_error(what), ranks_(std::move(ranks)) {}
  [[nodiscard]] const std::vector<std::int64_t>& ranks() const { return ranks_; }

 private:
  std::vector<std::int64_t> ranks_;
};

/// XXH3-64 of the bytes of a contiguous CPU tensor.
[[nodiscard]] std::uint64_t buffer_digest(const at::Tensor& tensor);

/// Throws ReplicaDrift on every rank unless all ranks hold the same bytes; it names the ranks that differ
/// from the majority (from the lowest rank where there is none). `what` says which buffer it is. Collective.
void check_replicas(Communicator& communicator, const at::Tensor& tensor, const std::string& what);

}  // namespace sluice::parallel
