#include "trainer/kernels/peak.h"

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <c10/core/InferenceMode.h>

#include "trainer/kernels/host_products.h"
#include "trainer/kernels/repeat.h"

namespace sluice::kernels {
namespace {

at::ScalarType dtype_of(Arithmetic arithmetic) {
  if (arithmetic == Arithmetic::kBf16) return at::kBFloat16;
  return arithmetic == Arithmetic::kFp64 ? at::kDouble : at::kFloat;
}

/// How cuBLAS rounds fp32 inputs, until the end of the scope.
class Tf32Scope {
 public:
  explicit Tf32Scope(Arithmetic arithmetic)
      : before_(at::globalContext().float32Precision(at::Float32Backend::CUDA, at::Float32Op::MATMUL) ==
                at::Float32Precision::TF32) {
    at::globalContext().setAllowTF32CuBLAS(arithmetic == Arithmetic::kTf32);
  }
  ~Tf32Scope() { at::globalContext().setAllowTF32CuBLAS(before_); }
  Tf32Scope(const Tf32Scope&) = delete;
  Tf32Scope& operator=(const Tf32Scope&) = delete;

 private:
  bool before_;
};

}  // namespace

std::vector<GemmShape> large_gemms(const c10::Device& device) {
  if (device.is_cpu()) return {{1024, 1024, 1024}, {2048, 2048, 2048}};
  return {{8192, 8192, 8192}, {16384, 8192, 8192}, {16384, 8192, 16384}};
}

GemmRate measure_gemm(Arithmetic arithmetic, const GemmShape& shape, const c10::Device& device,
                      double budget_s) {
  TORCH_CHECK(arithmetic != Arithmetic::kTf32 || !device.is_cpu(), "a CPU has no tf32 products");
  const c10::InferenceMode no_autograd;
  const Tf32Scope rounding(arithmetic);
  std::vector<double> seconds;
  {
    const auto kind = at::TensorOptions().dtype(dtype_of(arithmetic)).device(device);
    const at::Tensor left = at::randn({shape.rows, shape.inner}, kind);
    const at::Tensor right = at::randn({shape.inner, shape.columns}, kind);
    at::Tensor product = at::empty({shape.rows, shape.columns}, kind);
    const auto multiply = [&] {
      device.is_cpu() ? host::multiply(product, left, right) : void(at::mm_out(product, left, right));
    };
    seconds = repeat(multiply, device, {.seconds = budget_s});
  }
  release_memory(device);
  return {.shape = shape,
          .flops_per_s = shape.flops() / seconds[seconds.size() / 2],
          .best_flops_per_s = shape.flops() / seconds.front(),
          .repetitions = static_cast<std::int64_t>(seconds.size())};
}

GemmRate measure_gemm_peak(Arithmetic arithmetic, const std::vector<GemmShape>& shapes,
                           const c10::Device& device, double budget_s_per_shape) {
  GemmRate best;
  for (const GemmShape& shape : shapes) {
    const GemmRate rate = measure_gemm(arithmetic, shape, device, budget_s_per_shape);
    if (rate.flops_per_s > best.flops_per_s) best = rate;
  }
  return best;
}

double measure_copy(std::int64_t bytes, const c10::Device& device, double budget_s) {
  const c10::InferenceMode no_autograd;
  std::vector<double> seconds;
  {
    const auto kind = at::TensorOptions().dtype(at::kFloat).device(device);
    const at::Tensor from = at::randn({bytes / 4}, kind);
    const at::Tensor to = at::empty({bytes / 4}, kind);
    seconds = repeat([&] { to.copy_(from); }, device, {.seconds = budget_s});
  }
  release_memory(device);
  return 2.0 * static_cast<double>(bytes / 4 * 4) / seconds[seconds.size() / 2];
}

}  // namespace sluice::kernels
