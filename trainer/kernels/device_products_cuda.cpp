#include "trainer/kernels/device_products.h"

#include <c10/cuda/CUDAGuard.h>

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "trainer/kernels/lt_product_cuda.h"

namespace sluice::kernels {
namespace {

/// What products of this process have been told and have found. Autograd runs backward on threads of its own.
struct Choices {
  std::mutex mutex;
  ProductTable installed;
  std::map<std::pair<c10::DeviceIndex, ProductProblem>, std::optional<ProductAlgorithm>> chosen;
  std::set<ProductProblem> recorded;
  bool recording = false;
};

Choices& choices() {
  static Choices all;
  return all;
}

/// Distance of the columns of a row-major matrix's transpose.
std::int64_t row_stride(const at::Tensor& x) { return x.size(0) > 1 ? x.stride(0) : x.size(1); }

/// A matrix that the library's kernels read without further ado.
bool is_aligned(const at::Tensor& x) {
  const auto pitch = static_cast<std::size_t>(row_stride(x)) * x.element_size();
  return x.is_cuda() && x.numel() > 0 && pitch % kLtAlignment == 0 &&
         reinterpret_cast<std::uintptr_t>(x.const_data_ptr()) % kLtAlignment == 0;
}

bool is_aligned_bf16(const at::Tensor& x) { return x.scalar_type() == at::kBFloat16 && is_aligned(x); }

ProductResult result_of(const at::Tensor& d) {
  return d.scalar_type() == at::kFloat ? ProductResult::kFloat : ProductResult::kBf16;
}

std::optional<ProductAlgorithm> choose(const LtPlace& place, LtProduct& product,
                                       const ProductProblem& problem, const ProductTable& installed) {
  const auto found = installed.algorithms.find(text_of(problem));
  if (found != installed.algorithms.end() && product.accepts(place, found->second)) return found->second;
  const auto candidates = product.candidates(place, 1);
  return candidates.empty() ? std::nullopt : std::optional(candidates.front());
}

std::optional<ProductAlgorithm> algorithm_for(at::Device device, const LtPlace& place, LtProduct& product,
                                              const ProductProblem& problem) {
  Choices& all = choices();
  const std::lock_guard lock(all.mutex);
  if (all.recording) all.recorded.insert(problem);
  const auto [entry, missing] = all.chosen.try_emplace({device.index(), problem});
  if (missing) entry->second = choose(place, product, problem, all.installed);
  return entry->second;
}

bool run(const ProductProblem& problem, const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias,
         const at::Tensor& d, const float* a_unit = nullptr, const float* b_unit = nullptr, float beta = 0) {
  const c10::cuda::CUDAGuard guard(d.device());
  const LtPlace place = lt_place(d.device());
  LtProduct product(problem);
  const auto algorithm = algorithm_for(d.device(), place, product, problem);
  if (!algorithm) return false;
  const LtOperands operands{.a = a.const_data_ptr(),
                            .b = b.const_data_ptr(),
                            .bias = bias.defined() ? bias.const_data_ptr() : nullptr,
                            .a_unit = a_unit,
                            .b_unit = b_unit,
                            .d = d.mutable_data_ptr(),
                            .beta = beta};
  check_lt(product.enqueue(place, *algorithm, operands), "cublasLtMatmul", problem);
  return true;
}

}  // namespace

bool try_linear(const at::Tensor& y, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
  if (!is_aligned_bf16(x) || !is_aligned_bf16(w) || !is_aligned(y)) return false;
  if (bias.defined() && reinterpret_cast<std::uintptr_t>(bias.const_data_ptr()) % kLtAlignment != 0)
    return false;
  return run({.kind = bias.defined() ? ProductKind::kLinearBias : ProductKind::kLinear,
              .result = result_of(y),
              .m = w.size(0),
              .n = x.size(0),
              .k = x.size(1),
              .a_stride = row_stride(w),
              .b_stride = row_stride(x),
              .d_stride = row_stride(y)},
             w, x, bias, y);
}

bool try_linear_input_gradient(const at::Tensor& dx, const at::Tensor& dy, const at::Tensor& w) {
  if (!is_aligned_bf16(dy) || !is_aligned_bf16(w) || !is_aligned(dx)) return false;
  return run({.kind = ProductKind::kInputGradient,
              .result = result_of(dx),
              .m = w.size(1),
              .n = dy.size(0),
              .k = w.size(0),
              .a_stride = row_stride(w),
              .b_stride = row_stride(dy),
              .d_stride = row_stride(dx)},
             w, dy, {}, dx);
}

bool try_linear_weight_gradient(const GradientSum& into, const at::Tensor& dy, const at::Tensor& x) {
  const at::Tensor& sum = into.sum;
  if (!is_aligned_bf16(dy) || !is_aligned_bf16(x) || !is_aligned(sum)) return false;
  return run({.kind = ProductKind::kWeightGradient,
              .result = result_of(sum),
              .m = x.size(1),
              .n = dy.size(1),
              .k = dy.size(0),
              .a_stride = row_stride(x),
              .b_stride = row_stride(dy),
              .d_stride = row_stride(sum)},
             x, dy, {}, sum, nullptr, nullptr, into.before == Before::kSum ? 1.0F : 0.0F);
}

bool try_fp8_linear(const at::Tensor& y, const Fp8Operand& x, const Fp8Operand& w, const at::Tensor& bias) {
  if (!is_aligned(x.values) || !is_aligned(w.values) || !is_aligned(y)) return false;
  const bool gradient = x.values.scalar_type() == at::kFloat8_e5m2;
  return run({.kind = bias.defined() ? ProductKind::kLinearBias : ProductKind::kLinear,
              .operands = gradient ? ProductOperands::kE5m2 : ProductOperands::kE4m3,
              .result = result_of(y),
              .m = w.values.size(0),
              .n = x.values.size(0),
              .k = x.values.size(1),
              .a_stride = row_stride(w.values),
              .b_stride = row_stride(x.values),
              .d_stride = row_stride(y)},
             w.values, x.values, bias, y, w.unit.const_data_ptr<float>(), x.unit.const_data_ptr<float>());
}

std::int64_t product_library() { return static_cast<std::int64_t>(cublasLtGetVersion()); }

ProductRecording::ProductRecording() {
  Choices& all = choices();
  const std::lock_guard lock(all.mutex);
  all.recorded.clear();
  all.recording = true;
}

ProductRecording::~ProductRecording() {
  Choices& all = choices();
  const std::lock_guard lock(all.mutex);
  all.recording = false;
}

std::vector<ProductProblem> ProductRecording::problems() {
  Choices& all = choices();
  const std::lock_guard lock(all.mutex);
  return {all.recorded.begin(), all.recorded.end()};
}

void install_products(const ProductTable& table) {
  Choices& all = choices();
  const std::lock_guard lock(all.mutex);
  all.installed = table;
  all.chosen.clear();
}

}  // namespace sluice::kernels
