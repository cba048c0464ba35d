#include "parallel/host_relay_cuda.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/util/Exception.h>

#include <algorithm>

#include "parallel/agree.h"
#include "parallel/at_index.h"

namespace sluice::parallel {
namespace {

/// Of a piece, what a rank brings: long enough for the bus's speed, short enough that little waits at either
/// end.
constexpr std::size_t kBroughtBytes = std::size_t{2} << 20U;
/// Those of two meetings, and of the two before them, which are fetched.
constexpr std::size_t kSlots = 4;
constexpr std::size_t kAlignment = 4096;

std::size_t piece_bytes(std::int64_t ranks) {
  const std::size_t share = kBroughtBytes / static_cast<std::size_t>(ranks - 1);
  return (share + kAlignment - 1) / kAlignment * kAlignment;
}

std::size_t counts_bytes(std::int64_t ranks) {
  const std::size_t bytes = static_cast<std::size_t>(ranks) * kMeetingBytes;
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

std::size_t all_bytes(std::int64_t ranks) {
  return counts_bytes(ranks) + kSlots * static_cast<std::size_t>(ranks * (ranks - 1)) * piece_bytes(ranks);
}

void copy(std::byte* to, const std::byte* from, std::size_t bytes, cudaStream_t stream) {
  C10_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream));
}

}  // namespace

HostRelay::HostRelay(Communicator& host, at::Device device)
    : rank_(static_cast<int>(host.rank())),
      ranks_(static_cast<int>(host.size())),
      piece_(piece_bytes(host.size())),
      memory_(host, all_bytes(host.size())),
      bringing_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device.index())),
      fetching_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device.index())) {
  TORCH_CHECK(ranks_ >= 2 && ranks_ <= kMostPeers, "HostRelay: of 2 to ", kMostPeers, " ranks, not ", ranks_);
  const c10::cuda::CUDAGuard guard(device);
  try {
    on_all_ranks(host, [this] {  // a limit of locked memory may stand against it
      C10_CUDA_CHECK(cudaHostRegister(memory_.begin(), memory_.bytes(),
                                      cudaHostRegisterMapped | cudaHostRegisterPortable));
      void* mapped = nullptr;
      C10_CUDA_CHECK(cudaHostGetDevicePointer(&mapped, memory_.begin(), 0));
      mapped_ = static_cast<std::byte*>(mapped);
    });
  } catch (...) {
    if (mapped_ != nullptr) cudaHostUnregister(memory_.begin());
    throw;
  }
  counts_ = {.ranks = ranks_, .rank = rank_};
  for (int rank = 0; rank < ranks_; ++rank)
    counts_.of[rank] = mapped_ + static_cast<std::size_t>(rank) * kMeetingBytes;
  for (cudaEvent_t* const event :
       {&begun_, &brought_[0], &brought_[1], &met_[0], &met_[1], &fetched_[0], &fetched_[1]})
    C10_CUDA_CHECK(cudaEventCreateWithFlags(event, cudaEventDisableTiming));
}

HostRelay::~HostRelay() {
  cudaDeviceSynchronize();
  for (const cudaEvent_t event :
       {begun_, brought_[0], brought_[1], met_[0], met_[1], fetched_[0], fetched_[1]})
    cudaEventDestroy(event);
  cudaHostUnregister(memory_.begin());
}

void HostRelay::all_gather(std::byte* tensor, std::size_t chunk, cudaStream_t stream) {
  Route route{.one_for_all = true};
  for (int rank = 0; rank < ranks_; ++rank) {
    route.send[at_index(rank)] = tensor + at_index(rank_) * chunk;
    route.receive[at_index(rank)] = tensor + at_index(rank) * chunk;
  }
  relay(route, chunk, stream);
}

void HostRelay::deal(const std::byte* send, const std::vector<std::byte*>& receive, std::size_t chunk,
                     cudaStream_t stream) {
  Route route;
  for (int rank = 0; rank < ranks_; ++rank) {
    route.send[at_index(rank)] = send + at_index(rank) * chunk;
    route.receive[at_index(rank)] = receive[at_index(rank)];
  }
  relay(route, chunk, stream);
}

/// Three streams: one brings, one meets, one fetches. A rank comes to the meeting over a piece when it has
/// brought that and fetched the last but one before it; so the pieces of a meeting two back have left the
/// slots of those four back.
void HostRelay::relay(const Route& route, std::size_t chunk, cudaStream_t stream) {
  if (chunk == 0) return;
  const cudaStream_t bringing = bringing_.stream();
  const cudaStream_t fetching = fetching_.stream();
  meet_peers(counts_, stream);  // all have fetched what came before
  C10_CUDA_CHECK(cudaEventRecord(begun_, stream));
  C10_CUDA_CHECK(cudaStreamWaitEvent(bringing, begun_, 0));
  const std::size_t pieces = (chunk + piece_ - 1) / piece_;
  for (std::size_t piece = 0; piece < pieces; ++piece) {
    const std::size_t turn = piece % 2;
    if (piece >= 2) C10_CUDA_CHECK(cudaStreamWaitEvent(bringing, met_[turn], 0));
    bring(route, piece, chunk);
    C10_CUDA_CHECK(cudaEventRecord(brought_[turn], bringing));
    C10_CUDA_CHECK(cudaStreamWaitEvent(stream, brought_[turn], 0));
    if (piece >= 2) C10_CUDA_CHECK(cudaStreamWaitEvent(stream, fetched_[turn], 0));
    meet_peers(counts_, stream);
    C10_CUDA_CHECK(cudaEventRecord(met_[turn], stream));
    C10_CUDA_CHECK(cudaStreamWaitEvent(fetching, met_[turn], 0));
    fetch(route, piece, chunk);
    C10_CUDA_CHECK(cudaEventRecord(fetched_[turn], fetching));
  }
  // In a capture no stream is left behind.
  C10_CUDA_CHECK(cudaStreamWaitEvent(stream, fetched_[(pieces - 1) % 2], 0));
}

void HostRelay::bring(const Route& route, std::size_t piece, std::size_t chunk) const {
  const std::size_t offset = piece * piece_;
  for (int step = 1; step < (route.one_for_all ? 2 : ranks_); ++step) {
    const int to = (rank_ + step) % ranks_;
    copy(place(piece % kSlots, rank_, step), route.send[at_index(to)] + offset,
         std::min(piece_, chunk - offset), bringing_.stream());
  }
}

void HostRelay::fetch(const Route& route, std::size_t piece, std::size_t chunk) const {
  const std::size_t offset = piece * piece_;
  for (int step = 1; step < ranks_; ++step) {
    const int from = (rank_ + ranks_ - step) % ranks_;
    copy(route.receive[at_index(from)] + offset, place(piece % kSlots, from, route.one_for_all ? 1 : step),
         std::min(piece_, chunk - offset), fetching_.stream());
  }
}

/// Of what rank `from` brings for the rank `step` places after it; for all of them: step 1.
std::byte* HostRelay::place(std::size_t slot, int from, int step) const {
  const std::size_t ranks = at_index(ranks_);
  const std::size_t index = (slot * ranks + at_index(from)) * (ranks - 1) + at_index(step - 1);
  return mapped_ + counts_bytes(ranks_) + index * piece_;
}

}  // namespace sluice::parallel
