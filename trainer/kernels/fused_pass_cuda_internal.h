#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <initializer_list>
#include <string>

#include "trainer/kernels/cuda_fused_launch.h"
#include "trainer/kernels/fused_passes.h"

// What the fused passes check of their tensors, and make of them for their launchers.
namespace sluice::kernels {

inline constexpr std::int64_t kMostRows = std::int64_t{1} << 30;

inline launch::Precision fused_precision(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kFloat ? launch::Precision::kFloat : launch::Precision::kBf16;
}

inline cudaStream_t fused_stream(const at::Tensor& tensor) {
  return c10::cuda::getCurrentCUDAStream(tensor.device().index()).stream();
}

inline at::Tensor new_tensor(const at::Tensor& like, at::IntArrayRef shape, at::ScalarType type) {
  return at::empty(shape, like.options().dtype(type).requires_grad(false));
}

inline bool aligned(const at::Tensor& tensor) {
  return reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()) % 16 == 0;
}

/// What every tensor of a pass must share.
struct Pass {
  const char* name;
  at::Device device;
  at::ScalarType compute;
  std::int64_t rows;
  std::int64_t width;

  /// [rows, width] of the type, contiguous.
  void matrix(const at::Tensor& tensor, const char* what, at::ScalarType type) const {
    TORCH_CHECK(tensor.defined() && tensor.device() == device && tensor.scalar_type() == type &&
                    tensor.dim() == 2 && tensor.size(0) == rows && tensor.size(1) == width &&
                    tensor.is_contiguous() && aligned(tensor),
                name, ": ", what, " must be [", rows, ", ", width, "] ", type, ", contiguous and on ", device,
                ", and is ", described(tensor));
  }
  /// [rows, width] of the compute type, rows apart.
  void half(const at::Tensor& tensor, const char* what) const {
    const std::int64_t unit = compute == at::kFloat ? 4 : 8;
    TORCH_CHECK(tensor.defined() && tensor.device() == device && tensor.scalar_type() == compute &&
                    tensor.dim() == 2 && tensor.size(0) == rows && tensor.size(1) == width &&
                    tensor.stride(1) == 1 && tensor.stride(0) >= width && tensor.stride(0) % unit == 0 &&
                    aligned(tensor),
                name, ": ", what, " must be [", rows, ", ", width, "] ", compute, " on ", device,
                ", its rows' elements adjacent and its rows 16-byte aligned, and is ", described(tensor));
  }
  void vector(const at::Tensor& tensor, const char* what, at::ScalarType type, std::int64_t size) const {
    TORCH_CHECK(tensor.defined() && tensor.device() == device && tensor.scalar_type() == type &&
                    tensor.dim() == 1 && tensor.size(0) == size && tensor.is_contiguous(),
                name, ": ", what, " must be [", size, "] ", type, ", contiguous and on ", device, ", and is ",
                described(tensor));
  }
  /// A parameter [width], read 16 bytes at a time.
  void parameter(const at::Tensor& tensor, const char* what) const {
    vector(tensor, what, compute, width);
    TORCH_CHECK(aligned(tensor), name, ": ", what, " must be 16-byte aligned");
  }
  void sum(const at::Tensor& tensor, const char* what) const { vector(tensor, what, at::kFloat, width); }
  void statistics(const at::Tensor& tensor) const {
    TORCH_CHECK(tensor.defined() && tensor.device() == device && tensor.scalar_type() == at::kFloat &&
                    tensor.dim() == 2 && tensor.size(0) == rows && tensor.size(1) == 2 &&
                    tensor.is_contiguous(),
                name, ": statistics must be [", rows, ", 2] float32, contiguous and on ", device,
                ", and are ", described(tensor));
  }

  static std::string described(const at::Tensor& tensor) {
    if (!tensor.defined()) return "undefined";
    return c10::str(tensor.sizes(), " ", tensor.scalar_type(), " on ", tensor.device(), ", strides ",
                    tensor.strides(), tensor.is_cuda() && !aligned(tensor) ? ", not 16-byte aligned" : "");
  }
};

inline Pass pass_over(const char* name, const at::Tensor& x, at::ScalarType compute) {
  TORCH_CHECK(x.defined() && x.dim() == 2 && has_fused_passes(x, compute, {x.size(1)}) && x.size(0) > 0 &&
                  x.size(0) <= kMostRows,
              name, ": no kernel for ", Pass::described(x), " computed in ", compute);
  return {name, x.device(), compute, x.size(0), x.size(1)};
}

inline launch::Strided strided(const at::Tensor& tensor) {
  return {tensor.const_data_ptr(), tensor.stride(0)};
}

inline const void* data_or_null(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr() : nullptr;
}

/// What each of a pass's blocks has left of its sums, [sums, blocks, width], to what is defined of `into`:
/// now, or later.
inline void add_sums(ColumnSums* later, const at::Tensor& partials, int blocks,
                     std::initializer_list<at::Tensor> into) {
  ColumnSums now;
  std::int64_t done = 0;
  for (const at::Tensor& sum : into) {
    if (!sum.defined()) continue;  // the last ones
    const std::int64_t left = blocks * sum.size(0);
    (later == nullptr ? now : *later).add(partials.narrow(0, done, left).view({blocks, sum.size(0)}), sum);
    done += left;
  }
  now.finish();
}

inline at::Tensor partials_of(const Pass& pass, const at::Tensor& like, std::int64_t sums) {
  return new_tensor(like, {sums * launch::kFusedMost * pass.width}, at::kFloat);
}

}  // namespace sluice::kernels
