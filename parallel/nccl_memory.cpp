#include "parallel/nccl_memory.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>
#include <nccl_device/impl/core__types.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "parallel/device_memory.h"

namespace sluice::parallel {
namespace {

bool is_unset_or(const char* name, std::string_view value) {
  const char* const text = std::getenv(name);
  return text == nullptr || text == value;
}

bool environment_allows(Movers use) {
  return (use != Movers::kCopyEngines ||
          is_unset_or("NCCL_CTA_POLICY", std::to_string(NCCL_CTA_POLICY_ZERO))) &&
         is_unset_or("NCCL_P2P_DISABLE", "0") && is_unset_or("NCCL_CUMEM_ENABLE", "1") &&
         is_unset_or("NCCL_WIN_ENABLE", "1");
}

/// NCCL registers memory that it cannot map, too, and does not say which it did: but what describes a mapped
/// window lies on the device.
bool describes_mapped(ncclWindow_t window) {
  cudaPointerAttributes attributes{};
  if (window == nullptr) return false;
  C10_CUDA_CHECK(cudaPointerGetAttributes(&attributes, window));
  return attributes.type == cudaMemoryTypeDevice;
}

}  // namespace

bool are_on_one_host(const Communicator& ranks) {
  return ranks.place().local_size == ranks.size() && ranks.size() <= kMostPeers;
}

NcclMemory::NcclMemory(NcclGroup& group, const Communicator& host, at::Device device, Movers use)
    : group_(group),
      device_(device),
      rank_(static_cast<int>(host.rank())),
      ranks_(static_cast<int>(host.size())) {
  if (use == Movers::kNcclKernels || use == Movers::kHostMemory || !are_on_one_host(host) ||
      !environment_allows(use))
    return;
  pieces_.push_back(map(static_cast<std::int64_t>(kMeetingBytes)));
  mapped_ = describes_mapped(pieces_.front().window);
  if (mapped_) find_peers(pieces_.front());
}

NcclMemory::~NcclMemory() {
  if (!group_.is_healthy()) return;
  const c10::cuda::CUDAGuard guard(device_);
  cudaDeviceSynchronize();
  try {
    for (const Piece& piece : pieces_) {
      group_.run("ncclCommWindowDeregister",
                 [&](ncclComm_t comm) { return ncclCommWindowDeregister(comm, piece.window); });
      ncclMemFree(piece.begin);
      count_device_memory(-piece.bytes);
    }
  } catch (const NcclError&) {  // NOLINT(bugprone-empty-catch): the group keeps it, and is aborted next
  }
}

at::Tensor NcclMemory::zeros(std::int64_t elements, at::ScalarType dtype) {
  const auto options = at::TensorOptions().dtype(dtype).device(device_);
  if (!mapped_ || elements == 0) return at::zeros({elements}, options);
  const auto bytes = elements * static_cast<std::int64_t>(c10::elementSize(dtype));
  pieces_.push_back(map(bytes));
  find_peers(pieces_.back());
  return at::from_blob(pieces_.back().begin, {elements}, options);
}

/// Zeros.
NcclMemory::Piece NcclMemory::map(std::int64_t bytes) {
  const c10::cuda::CUDAGuard guard(device_);
  Piece piece{.bytes = bytes};
  const auto size = static_cast<std::size_t>(bytes);
  group_.run("ncclMemAlloc", [&](ncclComm_t /*comm*/) { return ncclMemAlloc(&piece.begin, size); });
  C10_CUDA_CHECK(cudaMemset(piece.begin, 0, size));
  C10_CUDA_CHECK(cudaDeviceSynchronize());  // no stream of ours is ordered after the default one
  group_.run("ncclCommWindowRegister", [&](ncclComm_t comm) {
    const ncclResult_t result =
        ncclCommWindowRegister(comm, piece.begin, size, &piece.window, NCCL_WIN_COLL_SYMMETRIC);
    // Of a polled group it says success while the ranks are still at it.
    return result == ncclSuccess ? ncclInProgress : result;
  });
  count_device_memory(bytes);
  return piece;
}

/// As NCCL's device API does (ncclGetLsaPointer).
void NcclMemory::find_peers(Piece& piece) const {
  ncclWindow_vidmem window{};
  C10_CUDA_CHECK(cudaMemcpy(&window, piece.window, sizeof(window), cudaMemcpyDeviceToHost));
  const std::size_t stride = static_cast<std::size_t>(window.stride4G) << 32U;
  piece.peers = {.ranks = ranks_, .rank = rank_};
  for (int rank = 0; rank < ranks_; ++rank)
    piece.peers.of[rank] =
        reinterpret_cast<std::byte*>(window.lsaFlatBase) + static_cast<std::size_t>(rank) * stride;
}

std::optional<PeerPointers> NcclMemory::find(const void* begin, std::size_t bytes) const {
  const auto* const first = static_cast<const std::byte*>(begin);
  for (const Piece& piece : pieces_) {
    const auto* const base = static_cast<const std::byte*>(piece.begin);
    if (first < base || first + bytes > base + piece.bytes) continue;
    PeerPointers peers = piece.peers;
    for (int rank = 0; rank < ranks_; ++rank) peers.of[rank] += first - base;
    return peers;
  }
  return std::nullopt;
}

}  // namespace sluice::parallel
