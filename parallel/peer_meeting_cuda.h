#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

// Included by nccl_*.cpp and host_relay_cuda alone. Errors are std::runtime_error with CUDA's own words.
namespace sluice::parallel {

/// GPUs that reach one another's memory: those of a host.
constexpr int kMostPeers = 16;

/// The same piece of memory of every rank, as this GPU has it mapped.
struct PeerPointers {
  std::byte* of[kMostPeers] = {};
  int ranks = 0;
  int rank = 0;
};

/// Bytes of the counts by which ranks wait for one another: zero before the first meeting, the meetings' own
/// from then on.
constexpr std::size_t kMeetingBytes = kMostPeers * sizeof(unsigned int);

/// Until `stream` of every rank has come here; what the ranks wrote before, anywhere, is then seen by all.
/// `counts`: kMeetingBytes of each rank. Can be captured.
void meet_peers(const PeerPointers& counts, cudaStream_t stream);

}  // namespace sluice::parallel
