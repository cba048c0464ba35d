#pragma once

#include <c10/core/Device.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "parallel/communicator.h"

namespace sluice::parallel {

/// A call of NCCL failed on this rank, or its threads met a fault (a peer that is gone).
class NcclError : public std::runtime_error {
 public:
  NcclError(std::string call, std::string code_text, std::int64_t rank)
      : std::runtime_error("rank " + std::to_string(rank) + ": " + call + " failed: " + code_text),
        call_(std::move(call)),
        code_text_(std::move(code_text)),
        rank_(rank) {}

  [[nodiscard]] const std::string& call() const { return call_; }
  [[nodiscard]] const std::string& code_text() const { return code_text_; }
  [[nodiscard]] std::int64_t rank() const { return rank_; }

 private:
  std::string call_;
  std::string code_text_;
  std::int64_t rank_;
};

/// Whether NCCL may block inside a call; if not, it returns at once and is polled.
enum class NcclCalls { kPolled, kBlocking };

struct NcclOptions {
  std::chrono::milliseconds limit = std::chrono::minutes(2);  ///< for one call, set-up included
  NcclCalls calls = NcclCalls::kPolled;
  Movers movers = Movers::kNcclKernels;
};

/// A group of the ranks of `host` that also exchanges tensors of `device` (CUDA, one GPU for each rank, the
/// current device of this thread), through NCCL; CPU tensors, bytes and barriers are the host's. Collective
/// over `host`, which outlives it. A group of one needs no NCCL and gets the local communicator.
///
/// Operations on CUDA tensors, blocking ones too, are ordered after the current stream's work, run on a
/// stream of the communicator's own, and never make the host wait for the GPU; the current stream waits in
/// Work::wait() (see there). They can be captured in a CUDA graph, in thread-local capture mode, when every
/// Work is waited for within the capture. float32, float64, bfloat16, int64, int32; kMin and kMax do not
/// promise to keep NaN. The tensors must live until the stream that waited has come past the wait.
///
/// Destroy graphs that hold its operations before it: NCCL waits for them, and after 30 s the communicator is
/// given up. After a fault, or during an exception, it is aborted instead of destroyed. NCCL's own settings
/// (NCCL_*) are left to the user. Throws on all ranks alike: NcclError on those that failed, PeerError on the
/// others; c10::Error in a build without CUDA.
[[nodiscard]] std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, at::Device device,
                                                                   NcclOptions options = {});
/// The same, which keeps `host`: what Communicator::split gave, for tensors of GPUs too.
[[nodiscard]] std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host,
                                                                   at::Device device,
                                                                   NcclOptions options = {});

}  // namespace sluice::parallel
