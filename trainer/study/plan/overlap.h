#pragma once

#include <vector>

namespace sluice::study::plan {

/// A bucket of gradients: ready after so many seconds of an undisturbed backward, reduced in so many.
struct ReadyBucket {
  double ready_s = 0;
  double reduce_s = 0;
};

/// Seconds after the backward's start.
struct Overlap {
  double backward_s = 0;  ///< end of the backward
  double reduced_s = 0;   ///< end of the last reduction; 0 without one

  [[nodiscard]] double exposed_s() const { return reduced_s > backward_s ? reduced_s - backward_s : 0; }
};

/// A backward of backward_s beside the reduction of its buckets, event by event, as
/// parallel::GradientReducer orders them: bucket k begins when it and all before it are ready and the one
/// before it is reduced. While one is being reduced, the backward takes `slowdown` (>= 1) times as long.
[[nodiscard]] Overlap simulate_overlap(double backward_s, const std::vector<ReadyBucket>& buckets,
                                       double slowdown);

}  // namespace sluice::study::plan
