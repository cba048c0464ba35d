#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace sluice::model {

/// Vaswani et al. 2017, 3.5: channel 2i holds sin(t * 10000^(-2i/d)), channel 2i + 1 the cosine: [positions,
/// width], computed in float64 and rounded to the type of `options`.
[[nodiscard]] at::Tensor sinusoids(std::int64_t positions, std::int64_t width,
                                   const at::TensorOptions& options);

}  // namespace sluice::model
