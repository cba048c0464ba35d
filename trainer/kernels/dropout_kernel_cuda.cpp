#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include "trainer/kernels/cuda_launch.h"
#include "trainer/kernels/dropout_kernel.h"

namespace sluice::kernels {

void dropout_kernel(const at::Tensor& x, const at::Tensor& y, const at::Tensor& samples_B, std::uint64_t seed,
                    std::uint32_t site, std::uint32_t threshold, double scale) {
  TORCH_CHECK(x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16, "dropout: no kernel for ",
              x.scalar_type());
  launch::dropout({.x = x.const_data_ptr(),
                   .y = y.mutable_data_ptr(),
                   .samples = samples_B.const_data_ptr<std::int64_t>(),
                   .parts = samples_B.numel(),
                   .elements = x.numel() / samples_B.numel(),
                   .seed = seed,
                   .site = site,
                   .threshold = threshold,
                   .scale = static_cast<float>(scale)},
                  x.scalar_type() == at::kFloat ? launch::Precision::kFloat : launch::Precision::kBf16,
                  c10::cuda::getCurrentCUDAStream(x.device().index()).stream());
}

}  // namespace sluice::kernels
