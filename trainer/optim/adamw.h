#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "trainer/kernels/device_update.h"
#include "trainer/optim/options.h"

namespace sluice::optim {

/// Elements [begin, end) of a flat buffer.
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  [[nodiscard]] std::int64_t numel() const { return end - begin; }
};

/// A run of a flat buffer that takes weight decay.
using DecayRange = Range;

/// AdamW or Adam over one flat parameter buffer, in place, one pass over memory (gradient scaling included).
/// Adam: Kingma & Ba 2015, algorithm 1, weight_decay * parameter added to the gradient; AdamW: Loshchilov &
/// Hutter 2019, algorithm 2, decay scaled by the learning rate alone: parameter * (1 - lr * weight_decay).
/// Moments start at zero and are public so that a checkpoint can save and overwrite them in place.
/// It may own a part of the buffer only (ZeRO-1): it then updates that part alone, and holds moments for that
/// part alone; the parameters may then be that part alone too, its ranges one after another. Elementwise: the
/// same bits for any number of threads, and whoever owns an element. Every call throws c10::Error for buffers
/// that are not flat, not of one size and type, and step() for those not on the CPU: on a GPU this class
/// holds the state, and kernels of its own update it.
class AdamW {
 public:
  /// `parameters`: flat, contiguous, float32 or float64, shared, not copied; `decayed`: sorted, disjoint,
  /// elements of it.
  AdamW(const OptimOptions& options, at::Tensor parameters, std::vector<DecayRange> decayed);
  /// `owned`: sorted, disjoint, elements of the whole buffer, which `parameters` are, or just these of it.
  AdamW(const OptimOptions& options, at::Tensor parameters, std::vector<DecayRange> decayed,
        std::vector<Range> owned);

  /// One update of what is owned, from gradients of the whole buffer (others' parts are not read);
  /// `gradient_scale` multiplies every gradient first (clipping). `update` counts from 1.
  void step(const at::Tensor& gradients, double lr, double gradient_scale, std::int64_t update);

  [[nodiscard]] const std::vector<Range>& owned() const { return owned_; }
  /// Flat: the owned ranges one after another.
  [[nodiscard]] const at::Tensor& first_moment() const { return first_; }
  [[nodiscard]] const at::Tensor& second_moment() const { return second_; }

 private:
  OptimOptions options_;
  at::Tensor parameters_;
  std::vector<DecayRange> decayed_;
  std::vector<Range> owned_;
  bool compact_ = false;  ///< parameters_ are what is owned alone
  at::Tensor first_;
  at::Tensor second_;
};

/// The numbers of one update for kernels::adamw_update, which then does what AdamW::step does; `update`
/// counts from 1. Throws c10::Error as AdamW does.
[[nodiscard]] kernels::UpdateScalars update_scalars(const OptimOptions& options, double lr,
                                                    std::int64_t update);

/// Sum of squares of each range of a flat buffer (0 for an empty one), float64, accumulated over fixed blocks
/// from the range's begin in a fixed order: the same bits for any number of threads. NaN or infinite if an
/// element is.
[[nodiscard]] at::Tensor slice_sums(const at::Tensor& flat, const std::vector<Range>& ranges);
/// Euclidean norm of a buffer from the sums of squares of its parts, added in their order.
[[nodiscard]] double global_norm(const at::Tensor& sums);

/// Factor that brings a gradient of this norm to at most `clip`; 1 if clip is 0 or the norm is below it. Says
/// nothing about a norm that is not finite: its gradients are to be refused before any step.
[[nodiscard]] double clip_scale(double norm, double clip);

}  // namespace sluice::optim
