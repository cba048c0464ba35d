#include "trainer/train/kernel_benchmark.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <functional>

#include "parallel/device.h"
#include "trainer/kernels/fused_passes.h"
#include "trainer/kernels/peak.h"
#include "trainer/kernels/products.h"
#include "trainer/kernels/repeat.h"
#include "trainer/kernels/spatial.h"

namespace sluice::train {
namespace {

constexpr double kEps = 1e-5;
constexpr double kBudgetS = 0.05;     ///< of a kernel
constexpr double kPeakBudgetS = 0.3;  ///< of a large product, and of the copy
constexpr double kTurnBytes = 512e6;  ///< that a kernel's sets of tensors have together at least
constexpr std::int64_t kCopyBytes = std::int64_t{1} << 30;

double pairs_of(const BlockShape& shape) {
  const auto n = static_cast<double>(shape.positions);
  return shape.mixing == kernels::Mixing::kCausal ? n * (n + 1) / 2 : n * n;
}

/// The sizes that formulas are made of.
struct Sizes {
  explicit Sizes(const BlockShape& shape)
      : rows(static_cast<double>(shape.batch * shape.positions)),
        d(static_cast<double>(shape.width)),
        f(static_cast<double>(shape.expansion)),
        h(f / 2),
        batch(static_cast<double>(shape.batch)),
        pairs(pairs_of(shape)),
        element(static_cast<double>(c10::elementSize(shape.compute))),
        residual(static_cast<double>(c10::elementSize(kernels::residual_type(shape.compute)))) {}

  double rows, d, f, h;
  double batch;
  double pairs;     ///< of positions that W joins
  double element;   ///< bytes
  double residual;  ///< bytes
};

constexpr double kSum = 4;  ///< bytes of an element of a gradient's sum, which is read and written

/// A product of [rows, inner] and [inner, outer] in the compute type.
KernelWork product(const std::string& name, Direction direction, const Sizes& s, double inner, double outer) {
  return {name, direction, s.element * (s.rows * (inner + outer) + inner * outer),
          2 * s.rows * inner * outer};
}

/// The gradient of a weight [outer, inner].
KernelWork weight_product(const std::string& name, const Sizes& s, double inner, double outer) {
  return {name, Direction::kBackward, s.element * s.rows * (inner + outer) + 2 * kSum * inner * outer,
          2 * s.rows * inner * outer};
}

/// A product of W, or of its gradient, over the batch: `tensors` of [rows, h], and W's elements.
KernelWork spatial_product(const std::string& name, Direction direction, const Sizes& s, double tensors,
                           double weight_bytes) {
  return {name, direction, s.element * s.rows * s.h * tensors + weight_bytes * s.pairs,
          2 * s.batch * s.h * s.pairs};
}

/// One set of a kernel's tensors, ready to be worked on.
using Launch = std::function<void()>;

struct Maker {
  const BlockShape& shape;
  c10::Device device;
  std::int64_t rows = shape.batch * shape.positions;
  std::int64_t half = shape.expansion / 2;
  at::ScalarType residual = kernels::residual_type(shape.compute);

  [[nodiscard]] at::Tensor values(at::IntArrayRef sizes, at::ScalarType type) const {
    return at::randn(sizes, at::TensorOptions().device(device).dtype(type));
  }
  [[nodiscard]] at::Tensor values(at::IntArrayRef sizes) const { return values(sizes, shape.compute); }
  [[nodiscard]] at::Tensor sum(at::IntArrayRef sizes) const {
    return at::zeros(sizes, at::TensorOptions().device(device).dtype(at::kFloat));
  }
  /// A half of what the expansion gives.
  [[nodiscard]] at::Tensor half_of_wide(std::int64_t which) const {
    return values({rows, shape.expansion}).narrow(1, which * half, half);
  }

  [[nodiscard]] Launch norm_forward() const {
    const auto x = values({rows, shape.width}, residual);
    const auto branch = values({rows, shape.width});
    const auto vector = values({shape.width});
    return [=] { (void)kernels::residual_norm_forward(x, branch, vector, vector, vector, kEps); };
  }
  [[nodiscard]] Launch norm_backward() const {
    const auto dy = values({rows, shape.width});
    const auto dsum = values({rows, shape.width}, residual);
    const auto stream = values({rows, shape.width}, residual);
    const auto weight = values({shape.width});
    const auto statistics = kernels::residual_norm_forward(stream, {}, {}, weight, weight, kEps).statistics;
    const kernels::ResidualNormSums sums = {sum({shape.width}), sum({shape.width}), sum({shape.width})};
    return [=] { (void)kernels::residual_norm_backward(dy, dsum, stream, weight, statistics, sums); };
  }
  [[nodiscard]] Launch gelu_norm_forward() const {
    const auto input = half_of_wide(1);
    const auto vector = values({half});
    return [=] { (void)kernels::gelu_norm_forward(input, vector, vector, kEps); };
  }
  [[nodiscard]] Launch gelu_norm_backward() const {
    const auto input = half_of_wide(1);
    const auto dinput = half_of_wide(1);
    const auto dy = values({rows, half});
    const auto weight = values({half});
    const auto statistics = kernels::gelu_norm_forward(input, weight, weight, kEps).statistics;
    const kernels::GeluNormSums sums = {sum({half}), sum({half}), sum({half})};
    return [=] { kernels::gelu_norm_backward(dy, input, weight, statistics, dinput, sums); };
  }
  [[nodiscard]] Launch gate_backward() const {
    const auto input = half_of_wide(0);
    const auto dinput = half_of_wide(0);
    const auto dz = values({rows, half});
    const auto mixed = values({rows, half});
    const std::int64_t positions = shape.positions;
    const kernels::GateSums sums = {sum({positions}), sum({half})};
    return [=] { (void)kernels::gate_backward(dz, input, mixed, {}, positions, dinput, sums); };
  }
  [[nodiscard]] at::Tensor sequences(const at::Tensor& rows_Th) const {
    return rows_Th.unflatten(0, {shape.batch, shape.positions});
  }
  [[nodiscard]] at::Tensor spatial_weight() const { return values({shape.positions, shape.positions}); }
  [[nodiscard]] Launch spatial_forward() const {
    const auto gate = sequences(values({rows, half}));
    const auto bypass = sequences(half_of_wide(0));
    const auto weight = spatial_weight();
    const auto bias = values({shape.positions});
    const auto mixing = shape.mixing;
    return [=] { (void)kernels::spatial_gate(gate, bypass, weight, bias, mixing, kernels::Keep::kMixed); };
  }
  [[nodiscard]] Launch spatial_input() const {
    const auto dmixed = sequences(values({rows, half}));
    const auto weight = spatial_weight();
    const auto mixing = shape.mixing;
    const auto diagonal = kernels::spatial_gate(dmixed, dmixed, weight, values({shape.positions}), mixing,
                                                kernels::Keep::kMixed)
                              .diagonal;
    return [=] { (void)kernels::spatial_input_gradient(dmixed, weight, diagonal, mixing); };
  }
  [[nodiscard]] Launch spatial_weight_gradient() const {
    const auto dmixed = sequences(values({rows, half}));
    const auto gate = sequences(values({rows, half}));
    const auto into = sum({shape.positions, shape.positions});
    const auto mixing = shape.mixing;
    return [=] { kernels::add_spatial_weight_gradient({into}, dmixed, gate, mixing); };
  }
  /// x [rows, inner] times a weight [outer, inner].
  [[nodiscard]] Launch linear(std::int64_t inner, std::int64_t outer, const at::Tensor& bias) const {
    const auto x = values({rows, inner});
    const auto w = values({outer, inner});
    return [=] { (void)kernels::linear(x, w, bias); };
  }
  [[nodiscard]] Launch input_gradient(std::int64_t inner, std::int64_t outer) const {
    const auto dy = values({rows, outer});
    const auto w = values({outer, inner});
    return [=] { (void)kernels::linear_input_gradient(dy, w); };
  }
  [[nodiscard]] Launch weight_gradient(std::int64_t inner, std::int64_t outer) const {
    const auto dy = values({rows, outer});
    const auto x = values({rows, inner});
    const auto into = sum({outer, inner});
    return [=] { kernels::add_linear_weight_gradient({into}, dy, x); };
  }
};

/// A kernel of the block: its work, and how to make it do it.
struct Kernel {
  KernelWork work;
  std::function<Launch(const Maker&)> make;
};

void add_forward(const BlockShape& shape, std::vector<Kernel>& all) {
  const Sizes s(shape);
  const std::int64_t half = shape.expansion / 2;
  constexpr auto kForward = Direction::kForward;
  all.push_back({{"norm", kForward, s.rows * s.d * 2 * (s.residual + s.element), 0}, &Maker::norm_forward});
  all.push_back({product("expand", kForward, s, s.d, s.f), [&shape](const Maker& m) {
                   return m.linear(shape.width, shape.expansion, m.values({shape.expansion}));
                 }});
  all.push_back(
      {{"GELU and gate norm", kForward, s.rows * s.h * 2 * s.element, 0}, &Maker::gelu_norm_forward});
  all.push_back({spatial_product("spatial and gate", kForward, s, 4, s.element), &Maker::spatial_forward});
  all.push_back({product("contract", kForward, s, s.h, s.d),
                 [&shape, half](const Maker& m) { return m.linear(half, shape.width, {}); }});
}

void add_backward(const BlockShape& shape, std::vector<Kernel>& all) {
  const Sizes s(shape);
  const std::int64_t half = shape.expansion / 2;
  constexpr auto kBackward = Direction::kBackward;
  all.push_back({product("contract, input", kBackward, s, s.d, s.h),
                 [&shape, half](const Maker& m) { return m.input_gradient(half, shape.width); }});
  all.push_back({weight_product("contract, weight", s, s.h, s.d),
                 [&shape, half](const Maker& m) { return m.weight_gradient(half, shape.width); }});
  all.push_back({{"gate", kBackward, s.rows * s.h * 6 * s.element, 0}, &Maker::gate_backward});
  all.push_back(
      {spatial_product("spatial, weight", kBackward, s, 2, 2 * kSum), &Maker::spatial_weight_gradient});
  all.push_back({spatial_product("spatial, input", kBackward, s, 2, s.element), &Maker::spatial_input});
  all.push_back(
      {{"GELU and gate norm", kBackward, s.rows * s.h * 3 * s.element, 0}, &Maker::gelu_norm_backward});
  all.push_back({product("expand, input", kBackward, s, s.f, s.d),
                 [&shape](const Maker& m) { return m.input_gradient(shape.width, shape.expansion); }});
  all.push_back({weight_product("expand, weight", s, s.d, s.f),
                 [&shape](const Maker& m) { return m.weight_gradient(shape.width, shape.expansion); }});
  all.push_back(
      {{"norm", kBackward, s.rows * s.d * (3 * s.residual + 2 * s.element), 0}, &Maker::norm_backward});
}

std::vector<Kernel> kernels_of(const BlockShape& shape) {
  std::vector<Kernel> all;
  add_forward(shape, all);
  add_backward(shape, all);
  return all;
}

/// Copies that take longer than the host needs to enqueue all repetitions of a kernel.
Launch head_start(const c10::Device& device) {
  constexpr int kCopies = 16;
  const auto from = at::zeros({kCopyBytes / 4}, at::TensorOptions().device(device).dtype(at::kFloat));
  const auto to = at::empty_like(from);
  return [=] {
    for (int i = 0; i < kCopies; ++i) to.copy_(from);
  };
}

KernelTime time_of(const Kernel& kernel, const Maker& maker, const Launch& head_start) {
  const auto sets =
      std::clamp<std::int64_t>(static_cast<std::int64_t>(kTurnBytes / kernel.work.bytes) + 1, 2, 64);
  std::vector<double> seconds;
  {
    std::vector<Launch> turns;
    for (std::int64_t i = 0; i < sets; ++i) turns.push_back(kernel.make(maker));
    std::size_t next = 0;
    seconds = kernels::repeat([&] { turns[next++ % turns.size()](); }, maker.device,
                              {.seconds = kBudgetS, .least = 20, .most = 200, .head_start = head_start});
  }
  kernels::release_memory(maker.device);
  return {kernel.work, seconds[seconds.size() / 2], static_cast<std::int64_t>(seconds.size())};
}

DeviceRates measure_rates(const BlockShape& shape, const c10::Device& device) {
  const auto arithmetic =
      shape.compute == at::kBFloat16 ? kernels::Arithmetic::kBf16 : kernels::Arithmetic::kFp32;
  return {
      kernels::measure_copy(kCopyBytes, device, kPeakBudgetS),
      kernels::measure_gemm_peak(arithmetic, kernels::large_gemms(device), device, kPeakBudgetS).flops_per_s};
}

}  // namespace

std::vector<KernelWork> work_of_block(const BlockShape& shape) {
  std::vector<KernelWork> all;
  for (Kernel& kernel : kernels_of(shape)) all.push_back(std::move(kernel.work));
  return all;
}

Limit limit_of(const KernelWork& work, const DeviceRates& rates) {
  return work.flops / rates.flops_per_s > work.bytes / rates.bytes_per_s ? Limit::kProducts : Limit::kMemory;
}

double least_seconds(const KernelWork& work, const DeviceRates& rates) {
  return std::max(work.flops / rates.flops_per_s, work.bytes / rates.bytes_per_s);
}

KernelReport benchmark_kernels(const BlockShape& shape, const c10::Device& device) {
  const c10::InferenceMode no_autograd;
  const Maker maker{shape, device};
  TORCH_CHECK(
      kernels::has_fused_passes(at::empty({0}, at::TensorOptions().device(device).dtype(maker.residual)),
                                shape.compute, {shape.width, maker.half}),
      "no fused passes for d_model ", shape.width, " and d_ffn ", shape.expansion, " in ", shape.compute,
      " on ", device, ": d_model and d_ffn / 2 must be multiples of 8, at most 8192");
  KernelReport report{parallel::device_name(device), shape, measure_rates(shape, device), {}};
  const Launch ahead = head_start(device);
  for (const Kernel& kernel : kernels_of(shape)) report.kernels.push_back(time_of(kernel, maker, ahead));
  return report;
}

}  // namespace sluice::train
