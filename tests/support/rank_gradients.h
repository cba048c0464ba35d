#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace sluice::tests {

/// Like the gradients of one rank, float32 on the CPU: what all ranks share plus noise of their own that is
/// several times larger, in blocks whose scales differ by orders of magnitude as layers' do. A pure function
/// of its arguments.
at::Tensor rank_gradients(std::int64_t rank, std::int64_t count);

/// |got - exact| / |exact|, Euclidean, in double.
double relative_error(const at::Tensor& got, const at::Tensor& exact);

}  // namespace sluice::tests
