#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

#include "parallel/communicator.h"
#include "parallel/side_stream.h"

namespace sluice::parallel {

/// Sums float32 tensors over ranks with bfloat16 on the wire and float32 in the sums: every rank rounds its
/// values once, sends chunk r to rank r, and rank r adds what it got in rank order. NCCL's own bfloat16 sum
/// rounds after every addition; README has the error of each. The bits are the same on every rank, in every
/// run, and on CPU and GPU. Half the bytes of a float32 all-reduce.
///
/// On a GPU the work runs on streams of its own beside backward, and can be captured; on the CPU a call does
/// it all before it returns. Calls are collective, one thread at a time, like the communicator's.
class Bf16Reduction {
 public:
  /// Tensors of at most `max_elements` on `device`: scratch of twice that many bfloat16, two times, is made
  /// now. `communicator` outlives it.
  Bf16Reduction(Communicator& communicator, std::int64_t max_elements, at::Device device);

  /// In place; `tensor`: float32, contiguous, on the device, numel % size() == 0. Afterwards the sums,
  /// rounded to bfloat16. A group of one changes nothing.
  Work all_reduce_async(const at::Tensor& tensor);
  /// In place: afterwards chunk rank() holds its sums, in float32; the rest is unspecified.
  Work reduce_scatter_async(const at::Tensor& tensor);

 private:
  enum class Result { kEverywhere, kOwnChunk };

  /// Two tensors may be under way at once: one is rounded while the other travels.
  struct Lane {
    SideStream stream;
    at::Tensor send;
    at::Tensor receive;
  };

  Work start(const at::Tensor& tensor, Result result);
  void exchange(const at::Tensor& tensor, const Lane& lane, Result result);

  Communicator& communicator_;
  at::Device device_;
  std::int64_t max_elements_;
  std::array<Lane, 2> lanes_;
  std::size_t next_lane_ = 0;
};

}  // namespace sluice::parallel
