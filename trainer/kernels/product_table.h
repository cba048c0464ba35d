#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <string>

// Which of cuBLASLt's algorithms each product runs with: chosen once by timing, the same on all ranks, kept
// with the run. An algorithm decides the order of a sum, and so its bits.
namespace sluice::kernels {

enum class ProductKind { kLinear, kLinearBias, kInputGradient, kWeightGradient };
enum class ProductResult { kBf16, kFloat };
/// A and B. FP8 products take rows of terms alone: kLinear or kLinearBias.
enum class ProductOperands {
  kBf16,
  kE4m3,  ///< both in e4m3
  kE5m2,  ///< A in e4m3, B, a gradient, in e5m2
};

/// What an algorithm is chosen for: D [m, n] = op(A) op(B), sums of k terms, as column-major cuBLASLt sees
/// it, with the distances of columns in elements.
struct ProductProblem {
  ProductKind kind = ProductKind::kLinear;
  ProductOperands operands = ProductOperands::kBf16;
  ProductResult result = ProductResult::kBf16;
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t a_stride = 0;
  std::int64_t b_stride = 0;
  std::int64_t d_stride = 0;

  auto operator<=>(const ProductProblem&) const = default;
  [[nodiscard]] double flops() const {
    return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  }
};

/// One line, a problem's name in a table: "linear_bias bf16 3072 x 32768 x 512 by 512, 512, 3072".
[[nodiscard]] std::string text_of(const ProductProblem& problem);

/// cublasLtMatmulAlgo_t, meaningful to one version of the library.
using ProductAlgorithm = std::array<std::uint64_t, 8>;

struct ProductTable {
  std::string device{};                                  ///< GPU model that they were timed on
  std::int64_t library = 0;                              ///< version of cuBLASLt
  std::map<std::string, ProductAlgorithm> algorithms{};  ///< by text_of(problem)

  bool operator==(const ProductTable&) const = default;
};

/// JSON, the same text for equal tables.
[[nodiscard]] std::string table_text(const ProductTable& table);
/// Throws std::invalid_argument that says what is wrong: not JSON, another format, a newer version, an
/// algorithm that is none.
[[nodiscard]] ProductTable read_table(const std::string& text);

}  // namespace sluice::kernels
