#include <c10/util/Exception.h>

#include "trainer/kernels/device_update.h"

namespace sluice::kernels {
namespace {

[[noreturn]] void refuse(const char* what) {
  TORCH_CHECK(false, what, " runs on a GPU, and this build has no CUDA sources");
}

}  // namespace

SliceSums::SliceSums(const std::vector<Slice>& /*slices*/, const at::Tensor& /*blocks*/) {
  refuse("SliceSums");
}

void SliceSums::run(const at::Tensor& /*flat_f32*/, const at::Tensor& /*sums_f64*/) const {
  refuse("SliceSums::run");
}

void decide_update(const at::Tensor& /*slice_sums_f64*/, const at::Tensor& /*agreed_f64*/,
                   const at::Tensor& /*scalars_f64*/, const at::Tensor& /*decision_f64*/) {
  refuse("decide_update");
}

void adamw_update(const std::vector<UpdateSlice>& /*slices*/, const at::Tensor& /*scalars_f64*/,
                  const at::Tensor& /*decision_f64*/) {
  refuse("adamw_update");
}

void split_windows(const at::Tensor& /*windows_i32*/, const at::Tensor& /*rows_i32*/,
                   const at::Tensor& /*tokens_i64*/, const at::Tensor& /*targets_i64*/) {
  refuse("split_windows");
}

}  // namespace sluice::kernels
