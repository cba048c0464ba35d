#include <ATen/ops/full.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <vector>

#include "tests/gpu/kernel_tensors.h"
#include "tests/support/cross_entropy_cases.h"
#include "trainer/kernels/cross_entropy.h"

// The chunked head on a GPU against full logits in float64 on the CPU.
namespace sluice::tests {
namespace {

class HeadKernelTest : public KernelsTest {
 protected:
  static void expect_close(const HeadResult& actual, const HeadResult& expected, double bound,
                           const HeadCase& c) {
    EXPECT_LE(relative_error(actual.loss, expected.loss, 1.0), bound) << c;
    EXPECT_LE(relative_error(actual.x_Td, expected.x_Td, 1.0), bound) << c;
    EXPECT_LE(relative_error(actual.weight_Vd, expected.weight_Vd, 1.0), bound) << c;
    if (c.bias) {
      EXPECT_LE(relative_error(actual.bias_V, expected.bias_V, 1.0), bound) << c;
    }
  }
};

TEST_F(HeadKernelTest, EqualsTheLossOfFullLogits) {
  // Vocabularies of one thread block's width and around it, divisible by four and not.
  const std::vector<HeadCase> cases = {
      {.rows = 1, .width = 1, .vocabulary = 2},
      {.rows = 37, .width = 5, .vocabulary = 33, .chunk_rows = 7},
      {.rows = 130, .width = 24, .vocabulary = 512, .chunk_rows = 64, .bias = false},
      {.rows = 65, .width = 16, .vocabulary = 2'048, .chunk_rows = 32},
      {.rows = 40, .width = 8, .vocabulary = 2'051, .chunk_rows = 40},
  };
  for (const HeadCase& c : cases) {
    const Head head = make_head(c);
    const HeadResult expected = run_reference(head, 0.37);
    expect_close(run_head(head, at::kDouble, gpu(), c.chunk_rows, 0.37), expected, 1e-12, c);
    expect_close(run_head(head, at::kFloat, gpu(), c.chunk_rows, 0.37), expected, 3e-6, c);
    const HeadResult rounded = run_head(head, at::kBFloat16, gpu(), c.chunk_rows, 0.37);
    EXPECT_EQ(rounded.loss.scalar_type(), at::kFloat);
    EXPECT_LE(relative_error(rounded.loss, expected.loss, 1.0), 3e-6) << c;
    expect_close(rounded, expected, 1.0 / 128, c);
  }
}

TEST_F(HeadKernelTest, HoldsForExtremeLogits) {
  const HeadCase c = {.rows = 50, .width = 8, .vocabulary = 333, .chunk_rows = 7, .scale = 1e4};
  const Head head = make_head(c);
  const HeadResult expected = run_reference(head, 1.0);
  ASSERT_TRUE(std::isfinite(expected.loss.item<double>()));
  expect_close(run_head(head, at::kFloat, gpu(), c.chunk_rows, 1.0), expected, 3e-6, c);
  expect_close(run_head(head, at::kBFloat16, gpu(), c.chunk_rows, 1.0), expected, 1.0 / 128, c);
}

TEST_F(HeadKernelTest, GivesTheSameBitsTwice) {
  const HeadCase c = {.rows = 100, .width = 16, .vocabulary = 515, .chunk_rows = 32};
  const Head head = make_head(c);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const HeadResult one = run_head(head, dtype, gpu(), c.chunk_rows, 0.5);
    const HeadResult two = run_head(head, dtype, gpu(), c.chunk_rows, 0.5);
    EXPECT_TRUE(same_bits(one.loss, two.loss));
    EXPECT_TRUE(same_bits(one.x_Td, two.x_Td));
    EXPECT_TRUE(same_bits(one.weight_Vd, two.weight_Vd));
    EXPECT_TRUE(same_bits(one.bias_V, two.bias_V));
  }
}

TEST_F(HeadKernelTest, GivesTheSameLossWithoutAutograd) {
  const Head head = make_head({.rows = 30, .width = 6, .vocabulary = 111});
  const HeadResult recorded = run_head(head, at::kFloat, gpu(), 8, 1.0);
  const auto put = [](const at::Tensor& t) { return on_gpu(t).to(at::kFloat); };
  const c10::NoGradGuard guard;
  EXPECT_TRUE(same_bits(kernels::linear_cross_entropy(put(head.x_Td), put(head.weight_Vd), put(head.bias_V),
                                                      on_gpu(head.targets_T), 8),
                        recorded.loss));
}

TEST_F(HeadKernelTest, AllRowsIgnoredIsZero) {
  const Head head = make_head({.rows = 9, .width = 4, .vocabulary = 65, .ignored_share = 2});
  const HeadResult actual = run_head(head, at::kBFloat16, gpu(), 4, 1.0);
  EXPECT_EQ(actual.loss.item<float>(), 0.0F);
  EXPECT_EQ(actual.x_Td.abs().max().item<float>(), 0.0F);
  EXPECT_EQ(actual.weight_Vd.abs().max().item<float>(), 0.0F);
}

TEST_F(HeadKernelTest, ATargetOutOfRangeMakesTheLossNan) {
  for (const std::int64_t target : {-1, 65, 1 << 30}) {
    Head head = make_head({.rows = 9, .width = 4, .vocabulary = 65, .ignored_share = 0});
    head.targets_T[3].fill_(target);
    EXPECT_TRUE(std::isnan(run_head(head, at::kFloat, gpu(), 4, 1.0).loss.item<float>())) << target;
  }
}

}  // namespace
}  // namespace sluice::tests
