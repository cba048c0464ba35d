#include "trainer/kernels/head_gradients.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randint.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/cross_entropy_cases.h"
#include "tests/support/kernel_tensors.h"

namespace sluice::kernels {
namespace {

using tests::gpu;
using tests::normal;
using tests::on_gpu;
using tests::relative_error;
using tests::same_bits;

class HeadGradientsTest : public tests::KernelsTest {};

SortedTokens sorted(const at::Tensor& tokens, std::int64_t vocabulary) {
  const SortedTokens room(tokens, vocabulary);
  room.sort();
  return room;
}

struct EmbeddingCase {
  std::string name;
  std::int64_t vocabulary;
  std::int64_t width;
  at::Tensor tokens;
};

at::Tensor any_tokens(std::int64_t vocabulary, std::int64_t rows) {
  return at::randint(vocabulary, {rows}, at::detail::createCPUGenerator(7),
                     at::TensorOptions().dtype(at::kLong));
}

/// Runs of equal tokens within a piece of rows, over some, and over all of them.
std::vector<EmbeddingCase> embedding_cases() {
  const at::Tensor skewed = any_tokens(1000, 5000);
  skewed.narrow(0, 100, 3000).fill_(17);
  return {{"many tokens", 4096, 64, any_tokens(4096, 3001)},
          {"few tokens", 3, 36, any_tokens(3, 2049)},
          {"one frequent token", 1000, 1028, skewed},
          {"one token", 1, 8, at::full({333}, 0, at::TensorOptions().dtype(at::kLong))},
          {"each token once", 640, 512, at::arange(640, at::TensorOptions().dtype(at::kLong)).flip(0)},
          {"one row", 50257, 4, at::full({1}, 50256, at::TensorOptions().dtype(at::kLong))},
          {"a whole piece", 9, 12, at::full({64}, 8, at::TensorOptions().dtype(at::kLong))}};
}

TEST_F(HeadGradientsTest, EmbeddingGradientIsExactAndHasTheSameBitsEachTime) {
  for (const EmbeddingCase& c : embedding_cases())
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      const at::Tensor rows = normal({c.tokens.size(0), c.width}, 1, type);
      const at::Tensor begun = normal({c.vocabulary, c.width}, 2);
      const at::Tensor exact = begun.to(at::kDouble).index_add(0, c.tokens, rows.to(at::kDouble));
      const auto sum = [&] {
        const at::Tensor to = on_gpu(begun.clone());
        add_embedding_gradient(to, sorted(on_gpu(c.tokens), c.vocabulary), on_gpu(rows));
        return to;
      };
      const at::Tensor first = sum();
      EXPECT_LE(relative_error(first, exact, 0), 1e-6) << c.name;
      EXPECT_TRUE(same_bits(first, sum())) << c.name;
    }
}

TEST_F(HeadGradientsTest, ScaledIsRoundedOnce) {
  const at::Tensor values = normal({37, 12}, 3);
  const at::Tensor begun = normal({37, 12}, 4);
  const at::Tensor scale = on_gpu(at::full({}, 0.37F, at::TensorOptions().dtype(at::kFloat)));
  EXPECT_TRUE(same_bits(scaled_bf16(on_gpu(values), scale), values.mul(0.37F).to(at::kBFloat16)));
  const at::Tensor sum = on_gpu(begun.clone());
  add_scaled({sum}, on_gpu(values), scale);
  const at::Tensor exact = begun.to(at::kDouble).add(values.to(at::kDouble), 0.37F);
  EXPECT_LE(relative_error(sum, exact, 0), 1e-7);
  add_scaled({sum, Before::kNothing}, on_gpu(values), scale);
  EXPECT_TRUE(same_bits(sum, values.mul(0.37F)));
}

TEST_F(HeadGradientsTest, RefusesOtherTensors) {
  const at::Tensor sum = on_gpu(normal({8, 4}, 1));
  const at::Tensor tokens = on_gpu(any_tokens(8, 5));
  const SortedTokens order = sorted(tokens, 8);
  const at::Tensor scale = on_gpu(at::full({}, 2, at::TensorOptions().dtype(at::kFloat)));
  EXPECT_THROW(add_embedding_gradient(sum, order, on_gpu(normal({4, 4}, 2))), c10::Error);
  EXPECT_THROW(SortedTokens(tokens.to(at::kInt), 8), c10::Error);
  EXPECT_THROW(add_embedding_gradient(sum.t(), order, on_gpu(normal({5, 8}, 2))), c10::Error);
  EXPECT_THROW(add_scaled({sum}, on_gpu(normal({4, 4}, 2)), scale), c10::Error);
  EXPECT_THROW(add_scaled({sum}, on_gpu(normal({8, 4}, 2)), scale.to(at::kDouble)), c10::Error);
  EXPECT_THROW((void)scaled_bf16(sum.cpu(), scale), c10::Error);
  EXPECT_FALSE(has_embedding_gradient(on_gpu(normal({8, 6}, 1)), on_gpu(normal({5, 6}, 2))));
}

}  // namespace
}  // namespace sluice::kernels
