#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include "trainer/kernels/cross_entropy.h"
#include "trainer/kernels/cross_entropy_rows.h"
#include "trainer/kernels/cuda_launch.h"

namespace sluice::kernels {
namespace {

using launch::RowGradient;

RowGradient kind_of(const at::Tensor& logits_RV, const at::Tensor& gradient_RV) {
  if (!gradient_RV.defined()) return RowGradient::kNone;
  TORCH_CHECK(
      gradient_RV.is_cuda() && gradient_RV.is_contiguous() && gradient_RV.sizes() == logits_RV.sizes(),
      "the gradient of logits ", logits_RV.sizes(), " has shape ", gradient_RV.sizes(), " on ",
      gradient_RV.device());
  if (gradient_RV.scalar_type() == logits_RV.scalar_type()) return RowGradient::kSame;
  TORCH_CHECK(gradient_RV.scalar_type() == at::kBFloat16, "the gradient of logits is of ",
              gradient_RV.scalar_type());
  return RowGradient::kBf16;
}

}  // namespace

void cross_entropy_rows(const at::Tensor& logits_RV, const at::Tensor& targets_R, const at::Tensor& losses_R,
                        const at::Tensor& gradient_RV) {
  TORCH_CHECK(logits_RV.is_cuda() && logits_RV.dim() == 2 && logits_RV.is_contiguous(),
              "logits: a contiguous matrix on a GPU is needed, given is ", logits_RV.sizes(), " on ",
              logits_RV.device());
  const std::int64_t rows = logits_RV.size(0);
  TORCH_CHECK(targets_R.is_cuda() && targets_R.is_contiguous() && targets_R.scalar_type() == at::kLong &&
                  targets_R.numel() == rows,
              "targets: ", rows, " int64 on a GPU are needed, given is ", targets_R.sizes(), " of ",
              targets_R.scalar_type(), " on ", targets_R.device());
  TORCH_CHECK(losses_R.is_cuda() && losses_R.is_contiguous() && losses_R.numel() == rows &&
                  losses_R.scalar_type() == logits_RV.scalar_type(),
              "losses: ", losses_R.sizes(), " of ", losses_R.scalar_type(), " on ", losses_R.device());
  const c10::cuda::CUDAGuard guard(logits_RV.device());
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream(logits_RV.device().index()).stream();
  const launch::RowArguments arguments{
      .logits = logits_RV.const_data_ptr(),
      .targets = targets_R.const_data_ptr<std::int64_t>(),
      .losses = losses_R.mutable_data_ptr(),
      .gradient = gradient_RV.defined() ? gradient_RV.mutable_data_ptr() : nullptr,
      .rows = rows,
      .columns = logits_RV.size(1),
      .ignored = kIgnoredTarget};
  const RowGradient kind = kind_of(logits_RV, gradient_RV);
  if (logits_RV.scalar_type() == at::kFloat) {
    launch::cross_entropy_rows<float>(arguments, kind, stream);
  } else {
    TORCH_CHECK(logits_RV.scalar_type() == at::kDouble, "logits of ", logits_RV.scalar_type());
    launch::cross_entropy_rows<double>(arguments, kind, stream);
  }
}

}  // namespace sluice::kernels
