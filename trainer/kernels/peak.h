#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <vector>

// What a device reaches on the two things that training is made of: products of large matrices, and copies.
// The denominators of MFU and of the share of memory bandwidth.
namespace sluice::kernels {

/// What multiplies: inputs, and how fp32 inputs are rounded. Sums are kept in fp32, of kFp64 in fp64.
enum class Arithmetic { kBf16, kTf32, kFp32, kFp64 };

/// [rows, inner] x [inner, columns].
struct GemmShape {
  std::int64_t rows = 0;
  std::int64_t inner = 0;
  std::int64_t columns = 0;

  [[nodiscard]] double flops() const {
    return 2.0 * static_cast<double>(rows) * static_cast<double>(inner) * static_cast<double>(columns);
  }
  /// Of both operands and the result.
  [[nodiscard]] double elements() const {
    const auto m = static_cast<double>(rows);
    const auto k = static_cast<double>(inner);
    const auto n = static_cast<double>(columns);
    return m * k + k * n + m * n;
  }
};

struct GemmRate {
  GemmShape shape;
  double flops_per_s = 0;  ///< of the median repetition
  double best_flops_per_s = 0;
  std::int64_t repetitions = 0;
};

/// Shapes that come near a device's peak: large squares and nearly squares, smaller ones for the CPU.
[[nodiscard]] std::vector<GemmShape> large_gemms(const c10::Device& device);

/// Products of normally distributed matrices (a GPU multiplies zeros faster: it clocks higher) through ATen,
/// as training calls it. After a warm-up, repetitions for about `budget_s` seconds, at least three, timed on
/// the device. Blocks; gives the device's memory back. kTf32 needs a GPU.
[[nodiscard]] GemmRate measure_gemm(Arithmetic arithmetic, const GemmShape& shape, const c10::Device& device,
                                    double budget_s);

/// The fastest of `shapes`.
[[nodiscard]] GemmRate measure_gemm_peak(Arithmetic arithmetic, const std::vector<GemmShape>& shapes,
                                         const c10::Device& device, double budget_s_per_shape);

/// Bytes read and written in a second by a copy of `bytes` within the device's memory, median of the
/// repetitions.
[[nodiscard]] double measure_copy(std::int64_t bytes, const c10::Device& device, double budget_s);

}  // namespace sluice::kernels
