#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "trainer/kernels/mixing.h"

// Relative position bias (Raffel et al. 2020, "Exploring the limits of transfer learning", 2.1): a learned
// number for each head and bucket of distances is added to attention's scores. Shape suffixes: H heads, T
// positions.
namespace sluice::kernels {

inline constexpr std::int64_t kRelativeBuckets = 32;
/// From here on all distances share their direction's last bucket.
inline constexpr std::int64_t kRelativeReach = 128;

/// The bucket, 0 ... kRelativeBuckets - 1, of a key `distance` positions after its query. kFull: one half of
/// the buckets for earlier and equal positions, the other for later ones; kCausal: all for earlier and equal
/// ones, later ones are never read. Of a half (or of all), the first half are for one distance each, the
/// others grow with the distance's logarithm.
[[nodiscard]] std::int64_t relative_bucket(std::int64_t distance, Mixing mixing);

/// One layer's biases.
struct RelativeBias {
  at::Tensor weight_HK;   ///< [H, kRelativeBuckets]; undefined: there is no such bias
  at::Tensor buckets_KD;  ///< relative_buckets of the model's positions

  [[nodiscard]] bool defined() const { return weight_HK.defined(); }
};

/// [kRelativeBuckets, 2 n - 1]: a one in column n - 1 + distance at the distance's bucket. A product with it
/// picks biases, and its backward sums them without atomics.
[[nodiscard]] at::Tensor relative_buckets(std::int64_t positions, Mixing mixing,
                                          const at::TensorOptions& options);

/// Of every query and key among the first T positions: [H, T, T], of float32 at least, differentiable.
[[nodiscard]] at::Tensor relative_bias(const RelativeBias& bias, std::int64_t positions);
/// Of the query at `position` and the keys up to it: [H, 1, position + 1].
[[nodiscard]] at::Tensor relative_bias_row(const RelativeBias& bias, std::int64_t position);

}  // namespace sluice::kernels
