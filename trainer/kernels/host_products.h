#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/kernels/gradient_sum.h"

// Products of matrices on the CPU, by the faster of the libraries that LibTorch brings along. ATen's
// operators take MKL's, which leave AMD's 512-bit vectors alone: on an EPYC that has them oneDNN's are 2.2
// times as fast (tests/bench/README.md). Which one it is depends on processor and sizes alone, and so do the
// bits.
namespace sluice::kernels::host {

/// Whether oneDNN multiplies such float32 matrices faster here: 2 `rows` `inner` `columns` operations.
[[nodiscard]] bool prefers_onednn(std::int64_t rows, std::int64_t inner, std::int64_t columns);

/// out [m, n] = a [m, k] b [k, n], or added to what is there. One type, any strides; out overlaps no operand.
void multiply(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b,
              Before before = Before::kNothing);

}  // namespace sluice::kernels::host
