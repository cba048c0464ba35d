#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "trainer/kernels/gradient_sum.h"
#include "trainer/kernels/product_table.h"

// The products of products.h on a GPU, through cuBLASLt, and the choice of its algorithms. A product runs
// with the installed table's algorithm, or with the first that the library's own heuristic names: both depend
// on the problem alone. Nothing is timed while products run, and all memory is there after a problem's first
// run on a stream: run it once before it is captured. In a build without CUDA the try_ functions decline and
// tuning throws c10::Error.
namespace sluice::kernels {

// Whether it was done; declined are operands of other types or not on a GPU, rows that begin off multiples of
// 16 bytes, nothing to add up, and what the library has no algorithm for. Operands are checked by
// products.cpp.
[[nodiscard]] bool try_linear(const at::Tensor& y, const at::Tensor& x, const at::Tensor& w,
                              const at::Tensor& bias);
[[nodiscard]] bool try_linear_input_gradient(const at::Tensor& dx, const at::Tensor& dy, const at::Tensor& w);
[[nodiscard]] bool try_linear_weight_gradient(const GradientSum& sum_oi, const at::Tensor& dy,
                                              const at::Tensor& x);

/// A matrix [rows, terms] in fp8; its value is `values` times unit[0].
struct Fp8Operand {
  at::Tensor values;  ///< e4m3, or e5m2
  at::Tensor unit;    ///< float32 [1]
};
/// y [T, o] bfloat16 = x w^T (+ bias bfloat16 [o]); w in e4m3, x in either.
[[nodiscard]] bool try_fp8_linear(const at::Tensor& y, const Fp8Operand& x, const Fp8Operand& w,
                                  const at::Tensor& bias);

/// Version of cuBLASLt; 0 without CUDA.
[[nodiscard]] std::int64_t product_library();

/// Notes the problems of this process's products, on all threads, as long as it lives.
class ProductRecording {
 public:
  ProductRecording();
  ~ProductRecording();
  ProductRecording(const ProductRecording&) = delete;
  ProductRecording& operator=(const ProductRecording&) = delete;

  /// Each once, in their order.
  [[nodiscard]] static std::vector<ProductProblem> problems();
};

struct TunedProduct {
  ProductProblem problem;
  ProductAlgorithm algorithm{};
  double first_s = 0;  ///< of the heuristic's first choice
  double tuned_s = 0;
  std::int64_t candidates = 0;
};

/// Times the library's candidates for each problem, on buffers of its own that lie outside the cache, in some
/// tens of milliseconds a problem. A problem that it has no algorithm for is left out.
[[nodiscard]] std::vector<TunedProduct> tune_products(const std::vector<ProductProblem>& problems,
                                                      at::Device device);

/// From here on products run with the table's algorithms; graphs captured before keep theirs.
void install_products(const ProductTable& table);

}  // namespace sluice::kernels
