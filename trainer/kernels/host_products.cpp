#include "trainer/kernels/host_products.h"

#include <ATen/Context.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>

namespace at::native {

// LibTorch exports it, but installs no header that declares it (ATen/native/mkldnn/Matmul.h): result = beta
// result + alpha mat1 mat2, by oneDNN, in float32 throughout.
void mkldnn_matmul(const Tensor& mat1, const Tensor& mat2, const Tensor& result, float beta, float alpha);

}  // namespace at::native

namespace sluice::kernels::host {
namespace {

/// Below, its ten microseconds to find a kernel are more than it saves.
constexpr double kLeastOperations = 4e6;

bool is_amd_with_wide_vectors() {
#if defined(__x86_64__)
  return __builtin_cpu_is("amd") != 0 && __builtin_cpu_supports("avx512f") != 0;
#else
  return false;
#endif
}

}  // namespace

bool prefers_onednn(std::int64_t rows, std::int64_t inner, std::int64_t columns) {
  static const bool can = is_amd_with_wide_vectors() && at::Context::hasMKLDNN();
  return can && 2.0 * static_cast<double>(rows) * static_cast<double>(inner) * static_cast<double>(columns) >=
                    kLeastOperations;
}

void multiply(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, Before before) {
  const bool adds = before == Before::kSum;
  if (a.scalar_type() == at::kFloat && prefers_onednn(a.size(0), a.size(1), b.size(1)))
    return at::native::mkldnn_matmul(a, b, out, adds ? 1.0F : 0.0F, 1.0F);
  at::Tensor result = out;
  if (adds) {
    at::addmm_out(result, out, a, b);
  } else {
    at::mm_out(result, a, b);
  }
}

}  // namespace sluice::kernels::host
