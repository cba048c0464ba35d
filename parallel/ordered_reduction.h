#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

#include "parallel/communicator.h"
#include "parallel/side_stream.h"

namespace sluice::parallel {

/// Sums float32 tensors over ranks by an all-to-all, additions in float32 in rank order, and an all-gather:
/// every rank sends chunk r to rank r, which adds what it got. The bits are the same on every rank, in every
/// run, and on CPU and GPU.
///
/// What travels is float32, or bfloat16: half the bytes, and every rank rounds its values once. (NCCL's own
/// bfloat16 sum rounds after every addition; README has the error of each.) In float32 it moves the bytes of
/// an all-reduce, and where the communicator has copy engines the adding alone is left to the GPU's cores.
///
/// On a GPU the work runs on streams of its own beside backward, and can be captured; on the CPU a call does
/// it all before it returns. Calls are collective, one thread at a time, like the communicator's.
class OrderedReduction {
 public:
  /// Collective. Tensors of at most `max_elements` on `device`; `wire`: kFloat or kBFloat16. Scratch of two
  /// times that many elements (bfloat16: four times) is made now. `communicator` outlives it.
  OrderedReduction(Communicator& communicator, std::int64_t max_elements, at::ScalarType wire,
                   at::Device device);

  /// In place; `tensor`: float32, contiguous, on the device, numel % size() == 0. Afterwards the sums, of
  /// bfloat16 rounded to it. A group of one changes nothing.
  Work all_reduce_async(const at::Tensor& tensor);
  /// In place: afterwards chunk rank() holds its sums, in float32; the rest is unspecified.
  Work reduce_scatter_async(const at::Tensor& tensor);

 private:
  enum class Result { kEverywhere, kOwnChunk };

  /// Two tensors may be under way at once: one is added up while the other travels.
  struct Lane {
    SideStream stream;
    at::Tensor rounded;  ///< what is sent of a tensor that does not travel as it is
    at::Tensor received;
  };

  [[nodiscard]] Lane make_lane() const;
  Work start(const at::Tensor& tensor, Result result);
  void exchange(const at::Tensor& flat, const Lane& lane, Result result);

  Communicator& communicator_;
  at::Device device_;
  std::int64_t max_elements_;
  at::ScalarType wire_;
  std::array<Lane, 2> lanes_;
  std::size_t next_lane_ = 0;
};

}  // namespace sluice::parallel
