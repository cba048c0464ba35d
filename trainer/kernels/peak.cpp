#include "trainer/kernels/peak.h"

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>
#include <functional>

namespace sluice::kernels {
namespace {

constexpr std::int64_t kLeast = 3;
constexpr std::int64_t kMost = 200;

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

double seconds_on_host(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Each repetition between two events of the device's current stream, so that none waits for the host.
std::vector<double> seconds_on_device(const std::function<void()>& work, std::int64_t repetitions,
                                      const c10::Device& device) {
  const c10::impl::VirtualGuardImpl guard(device.type());
  const c10::Stream stream = guard.getStream(device);
  std::vector<c10::Event> marks;
  for (std::int64_t i = 0; i <= repetitions; ++i)
    marks.emplace_back(device.type(), c10::EventFlag::BACKEND_DEFAULT);
  marks[0].record(stream);
  for (std::size_t i = 1; i < marks.size(); ++i) {
    work();
    marks[i].record(stream);
  }
  marks.back().synchronize();
  std::vector<double> seconds;
  for (std::size_t i = 1; i < marks.size(); ++i) seconds.push_back(1e-3 * marks[i - 1].elapsedTime(marks[i]));
  return seconds;
}

/// Sorted seconds of repetitions for about `budget_s`.
std::vector<double> repeat(const std::function<void()>& work, const c10::Device& device, double budget_s) {
  const auto measure = [&](std::int64_t repetitions) {
    if (!device.is_cpu()) return seconds_on_device(work, repetitions, device);
    std::vector<double> seconds;
    for (std::int64_t i = 0; i < repetitions; ++i) seconds.push_back(seconds_on_host(work));
    return seconds;
  };
  (void)measure(1);  // loads the library's code for this shape
  const double once = measure(1).front();
  const auto wanted = static_cast<std::int64_t>(std::min(budget_s / std::max(once, 1e-9), 1.0 * kMost));
  auto seconds = measure(std::max(kLeast, wanted));
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

void release_memory(const c10::Device& device) {
  if (!device.is_cpu()) c10::getDeviceAllocator(device.type())->emptyCache();
}

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
    seconds = repeat([&] { at::mm_out(product, left, right); }, device, budget_s);
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
    seconds = repeat([&] { to.copy_(from); }, device, budget_s);
  }
  release_memory(device);
  return 2.0 * static_cast<double>(bytes / 4 * 4) / seconds[seconds.size() / 2];
}

}  // namespace sluice::kernels
