#include "trainer/model/flops.h"

#include <c10/util/Exception.h>

namespace sluice::model {

FlopCount count_flops(const ModelOptions& options, std::int64_t vocabulary_size, Recompute recompute) {
  const auto layers = static_cast<double>(options.layers);
  const auto width = static_cast<double>(options.d_model);
  const auto hidden = static_cast<double>(options.d_ffn);
  const auto positions = static_cast<double>(options.seq_len);
  const double channel = 2 * width * hidden + 2 * (hidden / 2) * width;
  const double spatial_dense = 2 * positions * (hidden / 2);
  const double spatial_useful =
      options.causal ? spatial_dense * (positions + 1) / (2 * positions) : spatial_dense;
  const double head = 2 * width * static_cast<double>(vocabulary_size);
  double again = 0;
  if (recompute == Recompute::kGate) again = spatial_dense;
  if (recompute == Recompute::kBlock) again = channel + spatial_dense;
  constexpr double kForwardAndBackward = 3;
  return {.useful_per_token = kForwardAndBackward * (layers * (channel + spatial_useful) + head),
          .executed_per_token =
              kForwardAndBackward * (layers * (channel + spatial_dense) + head) + layers * again};
}

double flop_utilisation(double flops_per_token, double tokens_per_s, double peak_flops) {
  TORCH_CHECK(peak_flops > 0, "a peak of ", peak_flops, " FLOP/s");
  return flops_per_token * tokens_per_s / peak_flops;
}

}  // namespace sluice::model
