#pragma once

#include <c10/core/Device.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/peer_meeting_cuda.h"
#include "parallel/shared_memory.h"

namespace sluice::parallel {

/// Exchanges between the GPUs of one host by way of its memory, which takes nothing but their copy engines
/// and the host's bus: GPUs need not reach one another, and links between them sleep. What is exchanged goes
/// piece by piece through a little memory that all ranks have mapped: while a piece is fetched the next one
/// is brought. Of `chunk` bytes for each rank; calls only enqueue on `stream`, always the same one, in the
/// same order on all ranks, and can be captured. Included by nccl_communicator.cpp alone.
class HostRelay {
 public:
  /// Collective. `host`: the ranks, all of one host, of which each has a GPU, `device`. Throws on all ranks
  /// alike: as SharedMemory, or where a GPU cannot map it c10::Error, or PeerError.
  HostRelay(Communicator& host, at::Device device);
  /// Waits for all that was enqueued.
  ~HostRelay();
  HostRelay(const HostRelay&) = delete;
  HostRelay& operator=(const HostRelay&) = delete;

  /// Chunk r of `tensor` becomes that of rank r.
  void all_gather(std::byte* tensor, std::size_t chunk, cudaStream_t stream);
  /// Chunk r of `send` goes to rank r; what rank r sends here arrives at `receive[r]`. Of this rank's own
  /// nothing is done.
  void deal(const std::byte* send, const std::vector<std::byte*>& receive, std::size_t chunk,
            cudaStream_t stream);

 private:
  /// By rank, what goes to it and where what comes from it belongs; or the same for all.
  struct Route {
    std::array<const std::byte*, kMostPeers> send = {};
    std::array<std::byte*, kMostPeers> receive = {};
    bool one_for_all = false;
  };

  [[nodiscard]] std::byte* place(std::size_t slot, int from, int step) const;
  void relay(const Route& route, std::size_t chunk, cudaStream_t stream);
  void bring(const Route& route, std::size_t piece, std::size_t chunk) const;
  void fetch(const Route& route, std::size_t piece, std::size_t chunk) const;

  int rank_;
  int ranks_;
  std::size_t piece_;
  SharedMemory memory_;
  std::byte* mapped_ = nullptr;  ///< as the GPU sees it
  PeerPointers counts_;
  c10::cuda::CUDAStream bringing_;
  c10::cuda::CUDAStream fetching_;
  cudaEvent_t begun_ = nullptr;
  // Of pieces in turn.
  std::array<cudaEvent_t, 2> brought_ = {};
  std::array<cudaEvent_t, 2> met_ = {};
  std::array<cudaEvent_t, 2> fetched_ = {};
};

}  // namespace sluice::parallel
