#pragma once

#include <c10/core/Device.h>
#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <vector>

#include "trainer/kernels/product_table.h"

namespace sluice::kernels {

/// Of a Hopper, as the library's manual recommends.
inline constexpr std::size_t kLtWorkspaceBytes = std::size_t{32} << 20;
/// What the addresses of all matrices and the distances of their columns are multiples of.
inline constexpr std::size_t kLtAlignment = 16;

/// What a product runs in: the library's handle for a device, the current stream, and the memory that
/// products of this stream share one after another.
struct LtPlace {
  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;  ///< [kLtWorkspaceBytes]
  cudaStream_t stream = nullptr;
};
/// Makes on first use what is missing, and keeps it for ever.
[[nodiscard]] LtPlace lt_place(c10::Device device);

/// Addresses on the device; D is C as well.
struct LtOperands {
  const void* a = nullptr;
  const void* b = nullptr;
  const void* bias = nullptr;
  const float* a_unit = nullptr;  ///< of fp8: what A's and B's values are to be multiplied by
  const float* b_unit = nullptr;
  void* d = nullptr;
  float beta = 0;  ///< what is in D is multiplied by this and added
};

[[nodiscard]] constexpr bool transposes_a(ProductKind kind) {
  return kind == ProductKind::kLinear || kind == ProductKind::kLinearBias;
}
[[nodiscard]] constexpr bool transposes_b(ProductKind kind) { return kind == ProductKind::kWeightGradient; }

/// A problem as the library describes it. Errors are std::runtime_error with the library's own words.
class LtProduct {
 public:
  explicit LtProduct(const ProductProblem& problem);

  /// At most `most` algorithms that sum in fp32 in a fixed order and need no more workspace than that, the
  /// one that the library thinks fastest first; none if it has none.
  [[nodiscard]] std::vector<ProductAlgorithm> candidates(const LtPlace& place, int most,
                                                         std::size_t workspace_bytes = kLtWorkspaceBytes);
  /// Whether the algorithm runs this problem on this device with this library.
  [[nodiscard]] bool accepts(const LtPlace& place, const ProductAlgorithm& algorithm);
  [[nodiscard]] cublasStatus_t enqueue(const LtPlace& place, const ProductAlgorithm& algorithm,
                                       const LtOperands& operands);

  [[nodiscard]] const ProductProblem& problem() const { return problem_; }

 private:
  void set_bias(const void* bias);
  void set_units(const LtOperands& operands);

  ProductProblem problem_;
  cublasLtMatmulDescOpaque_t operation_{};
  cublasLtMatrixLayoutOpaque_t a_{};
  cublasLtMatrixLayoutOpaque_t b_{};
  cublasLtMatrixLayoutOpaque_t d_{};
};

/// Throws if `status` is a failure of `call` on the problem.
void check_lt(cublasStatus_t status, const char* call, const ProductProblem& problem);

}  // namespace sluice::kernels
