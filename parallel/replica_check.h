#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "parallel/arena.h"
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

/// XXH3-64 of the bytes of contiguous CPU tensors, one after another.
[[nodiscard]] std::uint64_t buffer_digest(const std::vector<at::Tensor>& tensors);

/// Throws ReplicaDrift on every rank unless all ranks hold the same bytes; it names the ranks that differ
/// from the majority (from the lowest rank where there is none). `what` says which buffer it is. Collective.
void check_replicas(Communicator& communicator, const at::Tensor& tensor, const std::string& what);
/// The same of a flat buffer of that layout, on the CPU: of what differs by place, ranks of the same place
/// are compared.
void check_replicas(Communicator& communicator, const ArenaLayout& layout, const at::Tensor& flat,
                    const std::string& what);

}  // namespace sluice::parallel
