#include <cuda/atomic>
#include <stdexcept>
#include <string>

#include "parallel/peer_meeting_cuda.h"

namespace sluice::parallel {
namespace {

using Count = cuda::atomic_ref<unsigned int, cuda::thread_scope_system>;

/// Thread r tells rank r, in that rank's memory, how many meetings this one has come to, and waits until it
/// finds as many from rank r in its own.
__global__ void __launch_bounds__(kMostPeers) meet(const PeerPointers counts) {
  const auto count_of = [&](int teller, int told) {
    return Count(reinterpret_cast<unsigned int*>(counts.of[told])[teller]);
  };
  const unsigned int now = count_of(counts.rank, counts.rank).load(cuda::memory_order_relaxed) + 1;
  __syncthreads();  // before this rank's own count goes on
  const auto peer = static_cast<int>(threadIdx.x);
  if (peer >= counts.ranks) return;
  count_of(counts.rank, peer).store(now, cuda::memory_order_release);
  // The difference: counts wrap around.
  while (static_cast<int>(count_of(peer, counts.rank).load(cuda::memory_order_acquire) - now) < 0) {
  }
}

}  // namespace

void meet_peers(const PeerPointers& counts, cudaStream_t stream) {
  meet<<<1, kMostPeers, 0, stream>>>(counts);
  if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess)
    throw std::runtime_error(std::string("meet_peers: ") + cudaGetErrorName(error) + ", " +
                             cudaGetErrorString(error));
}

}  // namespace sluice::parallel
