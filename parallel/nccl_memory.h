#pragma once

#include <ATen/core/Tensor.h>
#include <nccl.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "parallel/nccl_group.h"
#include "parallel/peer_meeting_cuda.h"

namespace sluice::parallel {

/// Whether ranks are of one host, and no more than can meet (meet_peers).
[[nodiscard]] bool are_on_one_host(const Communicator& ranks);

/// Memory of a GPU that all ranks of a group have mapped ("symmetric" windows of NCCL), for NCCL's zero-CTA
/// collectives, which push between ranks with copy engines, and for whoever writes to other ranks' memory.
/// Included by nccl_*.cpp alone.
class NcclMemory {
 public:
  /// Collective. `group`, of the ranks of `host`, outlives it.
  NcclMemory(NcclGroup& group, const Communicator& host, at::Device device, Movers use);
  /// Frees all memory, unless the group has met a fault: then its streams may never end.
  ~NcclMemory();
  NcclMemory(const NcclMemory&) = delete;
  NcclMemory& operator=(const NcclMemory&) = delete;

  /// Asked for, one host whose GPUs reach one another directly, and NCCL not told otherwise
  /// (NCCL_P2P_DISABLE, NCCL_CUMEM_ENABLE, NCCL_WIN_ENABLE, NCCL_CTA_POLICY). The same on all ranks.
  [[nodiscard]] bool is_mapped() const { return mapped_; }
  /// Collective. Zeros; of a group that maps none the caching allocator's.
  [[nodiscard]] at::Tensor zeros(std::int64_t elements, at::ScalarType dtype);
  /// Where every rank's part of mapped memory is that here begins at `begin`; none of other memory.
  [[nodiscard]] std::optional<PeerPointers> find(const void* begin, std::size_t bytes) const;
  /// The counts by which the ranks meet (meet_peers), where memory is mapped.
  [[nodiscard]] const PeerPointers& meeting_counts() const { return pieces_.front().peers; }

 private:
  struct Piece {
    void* begin = nullptr;
    ncclWindow_t window = nullptr;
    std::int64_t bytes = 0;
    PeerPointers peers = {};
  };

  [[nodiscard]] Piece map(std::int64_t bytes);
  void find_peers(Piece& piece) const;

  NcclGroup& group_;
  at::Device device_;
  int rank_;
  int ranks_;
  bool mapped_ = false;
  std::vector<Piece> pieces_;
};

}  // namespace sluice::parallel
