#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <cstdint>

#include "parallel/device_stream.h"
#include "tests/support/gpu.h"

namespace sluice::tests {

inline at::Device gpu() { return {at::kCUDA, 0}; }
inline at::Tensor on_gpu(const at::Tensor& tensor) { return tensor.to(gpu()); }

/// N(0, 1) on the CPU, a pure function of the seed.
inline at::Tensor normal(at::IntArrayRef shape, std::uint64_t seed, at::ScalarType dtype = at::kFloat) {
  return at::randn(shape, at::detail::createCPUGenerator(seed), at::TensorOptions().dtype(at::kDouble))
      .to(dtype);
}

/// The same bits, NaN included.
inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  const auto bytes = [](const at::Tensor& t) {
    return t.detach().cpu().contiguous().reshape({-1}).view(at::kByte);
  };
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() && at::equal(bytes(a), bytes(b));
}

/// First of a test on a device, which it skips where there is none.
inline void enter(const at::Device& device) {
  if (device.is_cuda()) {
    SLUICE_NEEDS_GPU();
  }
  parallel::enter_device(device);
}

/// Tests of our own kernels: small, for compute-sanitizer.
class KernelsTest : public ::testing::Test {
 protected:
  void SetUp() override { enter(gpu()); }
};

}  // namespace sluice::tests
