#pragma once

#include <ATen/core/Tensor.h>

namespace sluice::kernels {

/// to.copy_(from), both [rows, ...] of one shape and type with contiguous rows, on the current stream. On a
/// GPU by few of its cores: for a stream beside one that computes, whose kernels a plain copy, which takes
/// all cores at once, would hold up.
void copy_sparing_cores(const at::Tensor& to, const at::Tensor& from);

}  // namespace sluice::kernels
