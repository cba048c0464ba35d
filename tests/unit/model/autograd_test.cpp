#include "trainer/kernels/autograd.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/small_model.h"
#include "trainer/kernels/fused_passes.h"

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

/// Of a fused block; of one with a W larger than its other matrices all gradients come at once.
TEST(GradientReady, OfTheFirstBlocksMatricesComesAfterTheEmbeddings) {
  if (!has_fused_passes(at::zeros({1, 16}), at::kFloat, {16}))
    GTEST_SKIP() << "no fused passes for this processor";
  for (const std::int64_t length : {8, 64}) {
    SCOPED_TRACE(length);
    model::ModelOptions options;
    options.layers = 2, options.d_model = 16, options.d_ffn = 32, options.seq_len = length,
    options.tied = true;
    const auto small = testing::make_small_model(options, 7, at::kFloat, 1);
    std::vector<std::string> order;
    for (std::size_t i = 0; i < small.leaves.size(); ++i)
      on_gradient_ready(small.leaves[i], [&, i] { order.push_back(small.specs[i].name); });
    small.model
        ->loss_sum(testing::random_tokens({2, length}, 7, 1), testing::random_tokens({2, length}, 7, 2))
        .backward();
    EXPECT_EQ(order.size(), small.leaves.size());
    const auto embedding = std::ranges::find(order, "embed.weight");
    ASSERT_NE(embedding, order.end());
    std::vector<std::string> after(embedding + 1, order.end());
    std::ranges::sort(after);
    const std::vector<std::string> matrices = {"blocks.0.contract.weight", "blocks.0.expand.weight",
                                               "blocks.0.sgu.weight"};
    EXPECT_EQ(after, length == 8 ? matrices : std::vector<std::string>{});
  }
}

at::Tensor leaf_of(const at::Tensor& value) { return at::Tensor(value.clone()).set_requires_grad(true); }

TEST(RoundedLeaf, AddsUpInFloat32AndCallsBackOncePerBackward) {
  // A value and a gradient whose sum bfloat16 cannot hold.
  const at::Tensor gradients = at::zeros({5}).fill_(256.0);
  const at::Tensor leaf = make_rounded_leaf(at::arange(3).to(at::kBFloat16), gradients.narrow(0, 1, 3));
  int calls = 0;
  float seen = 0;
  on_gradient_ready(leaf, [&] {
    ++calls;
    seen = gradients[1].item<float>();
  });
  for (int backward = 1; backward <= 2; ++backward) {
    leaf.sum().backward();
    EXPECT_EQ(calls, backward);
    EXPECT_EQ(seen, 256.0F + static_cast<float>(backward));
    EXPECT_FALSE(leaf.grad().defined());
  }
  EXPECT_EQ(gradients[0].item<float>(), 256.0F);
  EXPECT_EQ(gradients[3].item<float>(), 258.0F);
  EXPECT_EQ(gradients[4].item<float>(), 256.0F);
  leaf.mul(leaf).sum().backward();  // used twice: one gradient, 2 x
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(gradients[2].item<float>(), 260.0F);
}

TEST(RoundedLeaf, ForgottenIsZeroToWhoeverAddsNext) {
  const at::Tensor gradient = at::zeros({3});
  const at::Tensor leaf = make_rounded_leaf(at::arange(3).to(at::kBFloat16), gradient);
  const auto forget = [&] {
    gradient.fill_(std::numeric_limits<float>::quiet_NaN());
    forget_gradient(leaf);
    EXPECT_TRUE(has_gradient_sum(leaf));
    EXPECT_TRUE(gradients_add_up({leaf}));
    EXPECT_TRUE(gradient.isnan().all().item<bool>());  // who asks is not who adds
  };
  forget();
  for (int backward = 1; backward <= 2; ++backward) {
    leaf.sum().backward();
    EXPECT_TRUE(gradient.eq(backward).all().item<bool>());
  }
  forget();
  gradient_sum(leaf).add_(4);
  gradient_sum(leaf).add_(1);
  EXPECT_TRUE(gradient.eq(5).all().item<bool>());
  forget();
  const GradientSum first = taken_sum(leaf);
  EXPECT_TRUE(first.before == Before::kNothing && first.sum.isnan().all().item<bool>());
  EXPECT_TRUE(taken_sum(leaf).before == Before::kSum);
}

TEST(RoundedLeaf, ThatAccumulatesInPlaceCannotBeForgotten) {
  EXPECT_THROW(forget_gradient(make_leaf(at::zeros({2}), at::zeros({2}))), c10::Error);
  EXPECT_THROW(forget_gradient(at::zeros({2})), c10::Error);
  EXPECT_FALSE(has_gradient_sum(at::zeros({2})));
  EXPECT_FALSE(taken_sum(at::zeros({2})).sum.defined());
}

TEST(RoundedLeaf, RefusesAGradientThatDoesNotMatch) {
  const at::Tensor value = at::zeros({6}, at::kBFloat16);
  EXPECT_THROW((void)make_rounded_leaf(value, at::zeros({5})), c10::Error);
  EXPECT_THROW((void)make_rounded_leaf(value, at::zeros({6}, at::kBFloat16)), c10::Error);
}

TEST(Recompute, RunsTheSegmentAgainForInputsAndLeaves) {
  const at::Tensor weight = leaf_of(at::arange(3, at::kDouble));
  const at::Tensor a = leaf_of(at::arange(3, at::kDouble).add(1));
  const at::Tensor constant = at::arange(3, at::kDouble).add(5);
  int runs = 0;
  const Segment segment = [&](const std::vector<at::Tensor>& in) {
    ++runs;
    return in[0].mul(in[0]).mul(weight).add(in[1]);
  };
  const at::Tensor out = recompute(segment, {a.mul(2), constant});
  EXPECT_EQ(runs, 1);
  EXPECT_TRUE(out.requires_grad());
  const at::Tensor loss = out.mul(constant).sum();
  loss.backward();
  EXPECT_EQ(runs, 2);
  // loss = sum c (4 a^2 w + c)
  EXPECT_TRUE(at::equal(a.grad(), constant.mul(a.detach()).mul(weight.detach()).mul(8)));
  EXPECT_TRUE(at::equal(weight.grad(), constant.mul(a.detach()).mul(a.detach()).mul(4)));
  EXPECT_FALSE(constant.grad().defined());
  EXPECT_THROW(loss.backward(), c10::Error);  // as for any graph that was not retained
}

TEST(Recompute, IsThePlainSegmentWhereNothingRecords) {
  const at::Tensor weight = leaf_of(at::arange(3, at::kDouble));
  int runs = 0;
  const Segment segment = [&](const std::vector<at::Tensor>& in) {
    ++runs;
    return in[0].mul(weight);
  };
  {
    const at::NoGradGuard no_grad;
    EXPECT_FALSE(recompute(segment, {weight}).requires_grad());
  }
  recompute(segment, {at::arange(3, at::kDouble)}).sum().backward();
  EXPECT_TRUE(at::equal(weight.grad(), at::arange(3, at::kDouble)));
  EXPECT_EQ(runs, 2);
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
