#include "parallel/nccl_memory.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <string_view>

#include "parallel/device_memory.h"

namespace sluice::parallel {
namespace {

/// The environment overrides the policy that the group was made with.
bool policy_allows_copy_engines() {
  const char* const text = std::getenv("NCCL_CTA_POLICY");
  return text == nullptr || std::string_view(text) == std::to_string(NCCL_CTA_POLICY_ZERO);
}

}  // namespace

NcclMemory::NcclMemory(NcclGroup& group, at::Device device, CopyEngines use)
    : group_(group), device_(device) {
  if (use == CopyEngines::kUnused || !policy_allows_copy_engines()) return;
  constexpr std::int64_t kProbe = 4096;
  pieces_.push_back(map(kProbe));
  mapped_ = pieces_.back().window != nullptr;
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
    return ncclCommWindowRegister(comm, piece.begin, size, &piece.window, NCCL_WIN_COLL_SYMMETRIC);
  });
  count_device_memory(bytes);
  return piece;
}

}  // namespace sluice::parallel
