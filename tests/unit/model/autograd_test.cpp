#include "trainer/kernels/autograd.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/support/small_model.h"

namespace sluice::kernels {
namespace {

TEST(Leaf, SharesMemoryWithValueAndGradient) {
  const at::Tensor values = at::arange(6, at::kDouble);
  const at::Tensor gradients = at::zeros({6}, at::kDouble);
  const at::Tensor leaf = make_leaf(values.narrow(0, 2, 3), gradients.narrow(0, 2, 3));
  leaf.mul(leaf).sum().backward();
  EXPECT_TRUE(at::equal(gradients.narrow(0, 2, 3), values.narrow(0, 2, 3).mul(2)));
  leaf.mul(leaf).sum().backward();
  EXPECT_TRUE(at::equal(gradients.narrow(0, 2, 3), values.narrow(0, 2, 3).mul(4)));
  EXPECT_EQ(gradients[1].item<double>() + gradients[5].item<double>(), 0.0);
  EXPECT_EQ(leaf.grad().data_ptr(), gradients[2].data_ptr());

  values.fill_(7.0);  // an optimizer's step reaches the leaf
  EXPECT_EQ(leaf.sum().item<double>(), 21.0);
}

TEST(Leaf, RefusesAGradientThatDoesNotMatch) {
  const at::Tensor value = at::zeros({6}, at::kDouble);
  EXPECT_THROW((void)make_leaf(value, at::zeros({5}, at::kDouble)), c10::Error);
  EXPECT_THROW((void)make_leaf(value, at::zeros({6}, at::kFloat)), c10::Error);
}

TEST(GradientReady, FiresOncePerBackwardForEveryParameterWhenItsGradientStands) {
  model::ModelOptions options;
  options.layers = 2, options.d_model = 4, options.d_ffn = 6,
  options.seq_len = 5;  // tied: the embedding is used twice
  const auto small = testing::make_small_model(options, 7, at::kDouble, 1);
  std::vector<int> calls(small.leaves.size(), 0);
  std::vector<at::Tensor> seen(small.leaves.size());
  for (std::size_t i = 0; i < small.leaves.size(); ++i) {
    on_gradient_ready(small.leaves[i], [&, i] {
      ++calls[i];
      seen[i] = small.leaves[i].grad().clone();
    });
  }
  for (int backward = 1; backward <= 3; ++backward) {
    small.model->loss_sum(testing::random_tokens({2, 5}, 7, 1), testing::random_tokens({2, 5}, 7, 2))
        .backward();
    EXPECT_EQ(calls, std::vector<int>(calls.size(), backward));
    for (std::size_t i = 0; i < calls.size(); ++i) {
      EXPECT_TRUE(at::equal(seen[i], small.leaves[i].grad())) << small.specs[i].name;
    }
  }
}

TEST(GradientReady, ComesFromTheEndOfTheModelFirst) {
  model::ModelOptions options;
  options.layers = 3, options.d_model = 4, options.d_ffn = 6, options.seq_len = 5, options.tied = false;
  const auto small = testing::make_small_model(options, 7, at::kDouble, 1);
  std::vector<std::string> order;
  for (std::size_t i = 0; i < small.leaves.size(); ++i) {
    on_gradient_ready(small.leaves[i], [&, i] { order.push_back(small.specs[i].name.substr(0, 8)); });
  }
  small.model->loss_sum(testing::random_tokens({2, 5}, 7, 1), testing::random_tokens({2, 5}, 7, 2))
      .backward();
  order.erase(std::unique(order.begin(), order.end()), order.end());
  const std::vector<std::string> layers(order.end() - 4, order.end());
  EXPECT_EQ(layers, (std::vector<std::string>{"blocks.2", "blocks.1", "blocks.0", "embed.we"}));
}

TEST(GradientReady, RefusesASecondCallbackAndWhatIsNoLeaf) {
  const at::Tensor leaf = make_leaf(at::zeros({2}, at::kDouble), at::zeros({2}, at::kDouble));
  on_gradient_ready(leaf, [] {});
  EXPECT_THROW(on_gradient_ready(leaf, [] {}), c10::Error);
  EXPECT_THROW(on_gradient_ready(leaf.mul(2), [] {}), c10::Error);
  EXPECT_THROW(on_gradient_ready(at::zeros({2}), [] {}), c10::Error);
}

}  // namespace
}  // namespace sluice::kernels
