#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace sluice::kernels {

/// What decides which elements are dropped.
struct Dropout {
  double rate = 0;  ///< share that is dropped, 0 ... 1, 1 excluded
  std::uint64_t seed = 0;
  at::Tensor
      samples_B;  ///< int64, each row's index among all samples of the run; undefined: nothing is dropped
  std::int64_t site = 0;  ///< place in the model, 0 ... 2^32 - 1: each draws for itself

  [[nodiscard]] bool active() const { return rate > 0 && samples_B.defined(); }
  [[nodiscard]] Dropout at(std::int64_t other) const { return {rate, seed, samples_B, other}; }
};

/// x with elements set to zero and the others divided by 1 - rate; x itself where dropout is not active. x
/// contiguous, B equal parts, part b of sample samples_B[b]. Whether an element is dropped is a pure function
/// of (seed, sample, site, place within the part): any division of the samples among ranks and micro-batches
/// drops the same, on any device, as does a second forward. Differentiable; nothing but samples_B is kept.
[[nodiscard]] at::Tensor dropout(const at::Tensor& x, const Dropout& dropout);

}  // namespace sluice::kernels
