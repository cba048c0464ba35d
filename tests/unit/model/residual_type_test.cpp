#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/small_model.h"
#include "trainer/kernels/gmlp_block.h"
#include "trainer/model/language_model.h"

// A residual stream in bfloat16 beside one in float32, of each family.
namespace sluice::testing {
namespace {

std::vector<model::ModelOptions> all_kinds() {
  std::vector<model::ModelOptions> all(3);
  all[1].kind = "transformer", all[1].heads = 2, all[1].positions = "sinusoidal";
  all[2].kind = "mixer", all[2].causal = false, all[2].d_spatial = 6;
  for (model::ModelOptions& one : all)
    one.layers = 3, one.d_model = 16, one.d_ffn = 32, one.seq_len = kSmallPositions;
  return all;
}

struct Outcome {
  at::Tensor loss;
  at::Tensor gradients;
};

Outcome step_of(const model::ModelOptions& options, at::ScalarType dtype, const model::Computing& computing) {
  const SmallModel small = make_small_model(options, kSmallVocabulary, dtype, 5);
  const auto model = model::make_model(options, kSmallVocabulary, small.leaves, computing);
  const at::Tensor loss = model->loss_sum(random_tokens({3, kSmallPositions}, kSmallVocabulary, 1),
                                          random_tokens({3, kSmallPositions}, kSmallVocabulary, 2));
  loss.backward();
  return {loss.detach(), small.gradients.clone()};
}

TEST(ResidualType, Bfloat16IsNearFloat64AndNotFloat32) {
  model::Computing narrow;
  narrow.residual = at::kBFloat16;
  for (const model::ModelOptions& options : all_kinds()) {
    const Outcome exact = step_of(options, at::kDouble, {});
    const Outcome wide = step_of(options, at::kBFloat16, {});
    const Outcome got = step_of(options, at::kBFloat16, narrow);
    EXPECT_EQ(got.loss.scalar_type(), at::kFloat) << options.kind;
    EXPECT_LT(relative_error(got.loss, exact.loss), 0.02) << options.kind;
    EXPECT_LT(relative_error(got.gradients, exact.gradients), 0.1) << options.kind;
    EXPECT_NE(got.loss.item<double>(), wide.loss.item<double>()) << options.kind;
  }
}

TEST(ResidualType, IsTheParametersOwnIfTheyAreNotBfloat16) {
  model::Computing narrow;
  narrow.residual = at::kBFloat16;
  for (const model::ModelOptions& options : all_kinds())
    EXPECT_EQ(step_of(options, at::kFloat, narrow).loss.item<double>(),
              step_of(options, at::kFloat, {}).loss.item<double>())
        << options.kind;
  EXPECT_EQ(kernels::residual_type(at::kBFloat16, at::kBFloat16), at::kBFloat16);
  EXPECT_EQ(kernels::residual_type(at::kBFloat16), at::kFloat);
  EXPECT_EQ(kernels::residual_type(at::kDouble, at::kBFloat16), at::kDouble);
}

}  // namespace
}  // namespace sluice::testing
