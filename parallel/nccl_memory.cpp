#include "parallel/nccl_memory.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>

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

/// NCCL registers memory that it cannot map, too, and does not say which it did.
bool environment_allows_mapping() {
  return is_unset_or("NCCL_CTA_POLICY", std::to_string(NCCL_CTA_POLICY_ZERO)) &&
         is_unset_or("NCCL_P2P_DISABLE", "0") && is_unset_or("NCCL_CUMEM_ENABLE", "1") &&
         is_unset_or("NCCL_WIN_ENABLE", "1");
}

}  // namespace

NcclMemory::NcclMemory(NcclGroup& group, const Communicator& host, at::Device device, CopyEngines use)
    : group_(group),
      device_(device),
      mapped_(use == CopyEngines::kWhereTheyCan && host.place().local_size == host.size() &&
              environment_allows_mapping()) {}

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
  const c10::cuda::CUDAGuard guard(device_);
  const auto bytes = elements * static_cast<std::int64_t>(c10::elementSize(dtype));
  pieces_.push_back(map(bytes));
  C10_CUDA_CHECK(cudaMemset(pieces_.back().begin, 0, static_cast<std::size_t>(bytes)));
  C10_CUDA_CHECK(cudaDeviceSynchronize());  // no stream of ours is ordered after the default one
  return at::from_blob(pieces_.back().begin, {elements}, options);
}

NcclMemory::Piece NcclMemory::map(std::int64_t bytes) {
  Piece piece{.bytes = bytes};
  const auto size = static_cast<std::size_t>(bytes);
  group_.run("ncclMemAlloc", [&](ncclComm_t /*comm*/) { return ncclMemAlloc(&piece.begin, size); });
  group_.run("ncclCommWindowRegister", [&](ncclComm_t comm) {
    const ncclResult_t result =
        ncclCommWindowRegister(comm, piece.begin, size, &piece.window, NCCL_WIN_COLL_SYMMETRIC);
    // Of a polled group it says success while the ranks are still at it.
    return result == ncclSuccess ? ncclInProgress : result;
  });
  count_device_memory(bytes);
  return piece;
}

}  // namespace sluice::parallel
