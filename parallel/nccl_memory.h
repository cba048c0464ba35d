#pragma once

#include <ATen/core/Tensor.h>
#include <nccl.h>

#include <cstdint>
#include <vector>

#include "parallel/nccl_group.h"

namespace sluice::parallel {

/// Memory of a GPU that all ranks of a group have mapped ("symmetric" windows of NCCL), so that NCCL's
/// zero-CTA collectives can push between ranks with copy engines. Included by nccl_*.cpp alone.
class NcclMemory {
 public:
  /// Collective. `group`, of the ranks of `host`, outlives it.
  NcclMemory(NcclGroup& group, const Communicator& host, at::Device device, CopyEngines use);
  /// Frees all memory, unless the group has met a fault: then its streams may never end.
  ~NcclMemory();
  NcclMemory(const NcclMemory&) = delete;
  NcclMemory& operator=(const NcclMemory&) = delete;

  /// Asked for, one host, and NCCL not told otherwise (NCCL_P2P_DISABLE, NCCL_CUMEM_ENABLE, NCCL_WIN_ENABLE,
  /// NCCL_CTA_POLICY). That the host's GPUs reach one another directly is taken for granted: NCCL does not
  /// say.
  [[nodiscard]] bool is_mapped() const { return mapped_; }
  /// Collective. Zeros; of a group that maps none the caching allocator's.
  [[nodiscard]] at::Tensor zeros(std::int64_t elements, at::ScalarType dtype);

 private:
  struct Piece {
    void* begin = nullptr;
    ncclWindow_t window = nullptr;
    std::int64_t bytes = 0;
  };

  [[nodiscard]] Piece map(std::int64_t bytes);

  NcclGroup& group_;
  at::Device device_;
  bool mapped_;
  std::vector<Piece> pieces_;
};

}  // namespace sluice::parallel
