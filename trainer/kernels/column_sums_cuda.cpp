#include "trainer/kernels/column_sums.h"

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include <algorithm>

#include "trainer/kernels/cuda_fused_launch.h"

namespace sluice::kernels {

void ColumnSums::add(const at::Tensor& partials_rc, const at::Tensor& into_c) {
  TORCH_CHECK(partials_rc.is_cuda() && partials_rc.dim() == 2 && into_c.dim() == 1 &&
                  partials_rc.size(1) == into_c.size(0) && partials_rc.device() == into_c.device() &&
                  partials_rc.scalar_type() == at::kFloat && into_c.scalar_type() == at::kFloat &&
                  partials_rc.is_contiguous() && into_c.is_contiguous(),
              "ColumnSums: ", partials_rc.sizes(), " of ", partials_rc.scalar_type(), " on ",
              partials_rc.device(), " to ", into_c.sizes(), " of ", into_c.scalar_type(), " on ",
              into_c.device());
  left_.push_back({partials_rc, into_c});
}

void ColumnSums::finish() {
  for (std::size_t done = 0; done < left_.size(); done += launch::kColumnSums) {
    const std::size_t end = std::min(left_.size(), done + launch::kColumnSums);
    launch::ColumnSums sums{};
    for (std::size_t i = done; i < end; ++i)
      sums.of[i - done] = {.partials = left_[i].partials_rc.const_data_ptr<float>(),
                           .into = left_[i].into_c.mutable_data_ptr<float>(),
                           .rows = static_cast<int>(left_[i].partials_rc.size(0)),
                           .columns = static_cast<int>(left_[i].into_c.size(0))};
    const at::Device device = left_[done].into_c.device();
    const c10::cuda::CUDAGuard guard(device);
    launch::add_column_sums(sums, c10::cuda::getCurrentCUDAStream(device.index()).stream());
  }
  left_.clear();
}

}  // namespace sluice::kernels
