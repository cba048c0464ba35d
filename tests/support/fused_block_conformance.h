#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

namespace sluice::tests {

/// gMLP blocks, fused and by ATen, on one device, forward and backward, against float64 on the CPU.
class FusedBlockTest : public ::testing::TestWithParam<at::Device> {
 protected:
  void SetUp() override;
};

}  // namespace sluice::tests
