#include "trainer/study/plan/overlap.h"

#include <algorithm>
#include <optional>

namespace sluice::study::plan {

Overlap simulate_overlap(double backward_s, const std::vector<ReadyBucket>& buckets, double slowdown) {
  double now = 0;
  double left = backward_s;  // of the undisturbed backward
  std::optional<double> ended;
  double reduced_s = 0;
  for (const ReadyBucket& bucket : buckets) {
    const double wait = std::clamp(bucket.ready_s - (backward_s - left), 0.0, left);  // the link is idle
    now += wait;
    left -= wait;
    const double beside = bucket.reduce_s / slowdown;  // of backward, while this bucket is reduced
    if (!ended && left <= beside) ended = now + left * slowdown;
    left -= std::min(left, beside);
    now += bucket.reduce_s;
    reduced_s = now;
  }
  return {.backward_s = ended.value_or(now + left), .reduced_s = reduced_s};
}

}  // namespace sluice::study::plan
