#include "trainer/kernels/device_copies.h"

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "trainer/kernels/cuda_launch.h"

namespace sluice::kernels {
namespace {

constexpr std::int64_t kVector = 16;

bool by_vectors(const at::Tensor& x) {
  const auto size = static_cast<std::int64_t>(x.element_size());
  return x.is_cuda() && x.dim() > 1 && x.numel() > 0 && x[0].is_contiguous() &&
         x[0].numel() * size % kVector == 0 && x.stride(0) * size % kVector == 0 &&
         reinterpret_cast<std::uintptr_t>(x.const_data_ptr()) % kVector == 0;
}

}  // namespace

void copy_sparing_cores(const at::Tensor& to, const at::Tensor& from) {
  const bool alike =
      to.sizes() == from.sizes() && to.scalar_type() == from.scalar_type() && to.device() == from.device();
  if (!alike || !by_vectors(to) || !by_vectors(from)) {
    to.copy_(from);
    return;
  }
  const c10::cuda::CUDAGuard guard(to.device());
  const auto vectors = [&](std::int64_t elements) {
    return elements * static_cast<std::int64_t>(to.element_size()) / kVector;
  };
  launch::copy_rows({.to = to.mutable_data_ptr(),
                     .from = from.const_data_ptr(),
                     .rows = to.size(0),
                     .vectors = vectors(to[0].numel()),
                     .to_stride = vectors(to.stride(0)),
                     .from_stride = vectors(from.stride(0))},
                    c10::cuda::getCurrentCUDAStream(to.device().index()).stream());
}

}  // namespace sluice::kernels
