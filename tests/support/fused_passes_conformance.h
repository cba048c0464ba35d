#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace sluice::tests {

/// Of the residual stream, and of parameters and products.
struct FusedTypes {
  at::ScalarType residual;
  at::ScalarType compute;
};
struct FusedShape {
  std::int64_t rows;
  std::int64_t width;
  std::int64_t positions;  ///< divides rows
};

/// The fused passes of a block on one device against ATen in float64 on the CPU, in the types and at shapes
/// that the device has passes for. On a GPU they are small, for compute-sanitizer.
class FusedPassesTest : public ::testing::TestWithParam<at::Device> {
 protected:
  void SetUp() override;
  void TearDown() override;

  [[nodiscard]] const std::vector<FusedTypes>& types() const;

  /// A value that `type` holds exactly, on the device.
  [[nodiscard]] at::Tensor drawn(at::IntArrayRef shape, std::uint64_t seed, at::ScalarType type,
                                 double scale = 1, double centre = 0) const;
  /// A sum that a pass adds to: it starts from somewhere.
  [[nodiscard]] at::Tensor started(std::int64_t size, std::uint64_t seed) const;

  /// Half a unit in bfloat16's last place where that is the result's type; sums of bfloat16 passes see the
  /// fast GELU.
  void near(const std::string& name, const at::Tensor& got, const at::Tensor& want, at::ScalarType compute);
  void near_sum(const std::string& name, const at::Tensor& got, std::uint64_t seed, const at::Tensor& want,
                at::ScalarType compute);

  void for_cases(const std::function<void(const FusedShape&, const FusedTypes&)>& run);

  std::string where_;
  std::map<std::string, double> worst_;
};

}  // namespace sluice::tests
