#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <ostream>
#include <string>
#include <vector>

#include "tests/support/reference_gmlp.h"
#include "tests/support/small_model.h"
#include "trainer/kernels/autograd.h"
#include "trainer/kernels/gmlp_block.h"

// The model against plain loops in double, and the properties that a causal language model owes its users.
namespace sluice::testing {
namespace {

constexpr std::int64_t kVocabulary = 7;

model::ModelOptions small_options() {
  model::ModelOptions options;
  options.layers = 2;
  options.d_model = 4;
  options.d_ffn = 6;
  options.seq_len = 5;
  return options;
}

struct Case {
  std::string name;
  model::ModelOptions options;
  std::int64_t positions;
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }
};

std::vector<Case> cases() {
  std::vector<Case> all;
  const auto add = [&](const std::string& name, std::int64_t positions, auto change) {
    Case c{name, small_options(), positions};
    change(c.options);
    all.push_back(c);
  };
  add("tied", 5, [](auto&) {});
  add("untied", 5, [](auto& o) { o.tied = false; });
  add("short_sequence", 3, [](auto&) {});
  add("one_position", 1, [](auto&) {});
  add("not_causal", 5, [](auto& o) { o.causal = false; });
  add("not_causal_short", 4, [](auto& o) { o.causal = false; });
  add("head_bias", 5, [](auto& o) { o.head_bias = true; });
  add("large_eps", 4, [](auto& o) { o.norm_eps = 0.3; });
  add("labml_conventions", 5, [](auto& o) {
    o.tied = false, o.head_bias = true, o.positions = "sinusoidal", o.scale_embedding = true;
  });
  add("one_layer_odd_width", 5, [](auto& o) { o.layers = 1, o.d_model = 3, o.positions = "sinusoidal"; });
  return all;
}

ReferenceGmlp::Sequence row(const at::Tensor& tokens_BT, std::int64_t index) {
  const at::Tensor flat = tokens_BT[index].contiguous();
  const auto* begin = flat.const_data_ptr<std::int64_t>();
  return {begin, begin + flat.numel()};
}

std::vector<ReferenceGmlp::Sequence> rows(const at::Tensor& tokens_BT) {
  std::vector<ReferenceGmlp::Sequence> out;
  for (std::int64_t i = 0; i < tokens_BT.size(0); ++i) out.push_back(row(tokens_BT, i));
  return out;
}

class AgainstPlainLoops : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const std::vector<std::int64_t> shape = {3, GetParam().positions};
    tokens_ = random_tokens(shape, kVocabulary, 11);
    targets_ = random_tokens(shape, kVocabulary, 12);
    targets_[1].fill_(model::kIgnore);  // a padded row, as in a short micro-batch
    targets_[0][0].fill_(model::kIgnore);
  }
  static SmallModel make(at::ScalarType dtype) {
    return make_small_model(GetParam().options, kVocabulary, dtype, 5);
  }
  static ReferenceGmlp reference(const SmallModel& small) {
    return {small.options, small.vocabulary_size, small.values()};
  }

  at::Tensor tokens_;
  at::Tensor targets_;
};

TEST_P(AgainstPlainLoops, Logits) {
  for (const auto& [dtype, bound] :
       {std::pair{at::kDouble, 1e-12}, std::pair{at::kFloat, 1e-5}, std::pair{at::kBFloat16, 0.03}}) {
    const SmallModel small = make(dtype);
    const at::Tensor logits = small.model->logits(tokens_);
    ASSERT_EQ(logits.sizes(), (std::vector<std::int64_t>{3, GetParam().positions, kVocabulary}));
    ASSERT_EQ(logits.scalar_type(), dtype);
    for (std::int64_t i = 0; i < 3; ++i) {
      EXPECT_LT(relative_error(logits[i], reference(small).logits(row(tokens_, i))), bound);
    }
  }
}

TEST_P(AgainstPlainLoops, LossSum) {
  for (const auto& [dtype, bound] :
       {std::pair{at::kDouble, 1e-12}, std::pair{at::kFloat, 1e-6}, std::pair{at::kBFloat16, 0.01}}) {
    const SmallModel small = make(dtype);
    const at::Tensor loss = small.model->loss_sum(tokens_, targets_);
    EXPECT_EQ(loss.dim(), 0);
    EXPECT_EQ(loss.scalar_type(), dtype == at::kDouble ? at::kDouble : at::kFloat);
    const double expected = reference(small).loss_sum(rows(tokens_), rows(targets_));
    EXPECT_NEAR(loss.item<double>(), expected, bound * std::abs(expected));
  }
}

TEST_P(AgainstPlainLoops, EveryGradient) {
  for (const auto& [dtype, bound] :
       {std::pair{at::kDouble, 1e-10}, std::pair{at::kFloat, 1e-4}, std::pair{at::kBFloat16, 0.1}}) {
    const SmallModel small = make(dtype);
    small.model->loss_sum(tokens_, targets_).backward();
    const ReferenceGmlp expected = reference(small);
    for (std::size_t i = 0; i < small.specs.size(); ++i) {
      const std::string& name = small.specs[i].name;
      EXPECT_LT(
          relative_error(small.leaves[i].grad(), expected.gradient(name, rows(tokens_), rows(targets_))),
          bound)
          << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Gmlp, AgainstPlainLoops, ::testing::ValuesIn(cases()),
                         [](const auto& instance) { return instance.param.name; });

/// Channels of bfloat16 about 1000 lie 4 apart: a stream rounded to it would lose what the norm is to see.
TEST(Gmlp, BFloat16BlocksKeepTheResidualStreamInFloat32) {
  const SmallModel small = make_small_model(small_options(), kVocabulary, at::kBFloat16, 5);
  const auto block_of = [&](at::ScalarType dtype) {
    const auto p = [&](std::size_t i) { return small.leaves[i].detach().to(dtype); };
    return kernels::GmlpBlock{p(1), p(2), p(3), p(4), p(5), p(6), p(7), p(8), p(9), p(10)};
  };
  at::Tensor x = at::zeros({2, 5, 4});
  for (std::int64_t i = 0; i < x.numel(); ++i)
    x.data_ptr<float>()[i] = 1000.0F + 0.125F * static_cast<float>(i * i % 23);
  const at::Tensor got = kernels::gmlp_block(x, block_of(at::kBFloat16));
  const at::Tensor expected = kernels::gmlp_block(x.to(at::kDouble), block_of(at::kDouble));
  ASSERT_EQ(got.scalar_type(), at::kFloat);
  EXPECT_LT(relative_error(got.to(at::kDouble).sub(x), expected.sub(x)), 0.02);
}

struct Trained {
  double loss = 0;
  at::Tensor gradients;
  std::vector<int> callbacks;
};

/// Two micro-batches, gradients adding up.
Trained train(const model::ModelOptions& options, at::ScalarType dtype, model::Recompute recompute) {
  const SmallModel small = make_small_model(options, kVocabulary, dtype, 5, recompute);
  Trained trained{
      .loss = 0, .gradients = small.gradients, .callbacks = std::vector<int>(small.leaves.size())};
  for (std::size_t i = 0; i < small.leaves.size(); ++i)
    kernels::on_gradient_ready(small.leaves[i], [&trained, i] { ++trained.callbacks[i]; });
  for (const std::uint64_t micro : {1, 2}) {
    const at::Tensor loss = small.model->loss_sum(random_tokens({3, 5}, kVocabulary, micro),
                                                  random_tokens({3, 5}, kVocabulary, micro + 10));
    loss.backward();
    trained.loss += loss.item<double>();
  }
  return trained;
}

TEST(Gmlp, RecomputeChangesNoBitAndTellsOfEveryGradientOnce) {
  model::ModelOptions options = small_options();
  options.layers = 3;
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const Trained kept = train(options, dtype, model::Recompute::kNone);
    for (const model::Recompute recompute : {model::Recompute::kGate, model::Recompute::kBlock}) {
      SCOPED_TRACE(std::string(c10::toString(dtype)) +
                   (recompute == model::Recompute::kGate ? " gate" : " block"));
      const Trained again = train(options, dtype, recompute);
      EXPECT_EQ(again.loss, kept.loss);
      EXPECT_TRUE(at::equal(again.gradients, kept.gradients));
      EXPECT_EQ(again.callbacks, std::vector<int>(again.callbacks.size(), 2));
    }
  }
}

TEST(Gmlp, IgnoredTargetsAloneGiveZeroLossAndGradient) {
  const SmallModel small = make_small_model(small_options(), kVocabulary, at::kFloat, 5);
  const at::Tensor tokens = random_tokens({2, 4}, kVocabulary, 1);
  const at::Tensor loss = small.model->loss_sum(tokens, at::Tensor(tokens.clone()).fill_(model::kIgnore));
  loss.backward();
  EXPECT_EQ(loss.item<double>(), 0.0);
  EXPECT_EQ(small.gradients.abs().max().item<double>(), 0.0);
}

TEST(Gmlp, LongSumInSinglePrecisionStaysWithinOneInAMillion) {
  model::ModelOptions options = small_options();
  options.seq_len = 128;
  const at::Tensor tokens = random_tokens({64, 128}, kVocabulary, 3);
  const at::Tensor targets = random_tokens({64, 128}, kVocabulary, 4);
  const SmallModel narrow = make_small_model(options, kVocabulary, at::kFloat, 5);
  const SmallModel wide = make_small_model(options, kVocabulary, at::kDouble, 5);
  EXPECT_LT(relative_error(narrow.model->loss_sum(tokens, targets), wide.model->loss_sum(tokens, targets)),
            1e-6);
}

TEST(Gmlp, TrainsOnMicroBatchesAsOnTheWholeBatch) {
  const at::Tensor tokens = random_tokens({5, 5}, kVocabulary, 3);
  const at::Tensor targets = random_tokens({5, 5}, kVocabulary, 4);
  const SmallModel whole = make_small_model(small_options(), kVocabulary, at::kDouble, 5);
  const SmallModel split = make_small_model(small_options(), kVocabulary, at::kDouble, 5);
  whole.model->loss_sum(tokens, targets).backward();
  split.model->loss_sum(tokens.narrow(0, 0, 2), targets.narrow(0, 0, 2)).backward();
  split.model->loss_sum(tokens.narrow(0, 2, 3), targets.narrow(0, 2, 3)).backward();
  EXPECT_LT(relative_error(split.gradients, whole.gradients), 1e-12);
}

RC_GTEST_PROP(Gmlp, LaterTokensNeverChangeEarlierLogits, (std::uint64_t seed)) {
  model::ModelOptions options = small_options();
  options.seq_len = 12;
  const auto length = *rc::gen::inRange<std::int64_t>(2, 13);
  const auto changed = *rc::gen::inRange<std::int64_t>(1, length);
  const SmallModel small = make_small_model(options, kVocabulary, at::kFloat, seed);
  const at::Tensor tokens = random_tokens({2, length}, kVocabulary, seed + 1);
  const at::Tensor other =
      at::cat({tokens.narrow(1, 0, changed), random_tokens({2, length - changed}, kVocabulary, seed + 2)}, 1);
  const at::Tensor before = small.model->logits(tokens).narrow(1, 0, changed);
  const at::Tensor after = small.model->logits(other).narrow(1, 0, changed);
  RC_ASSERT(at::equal(before, after));
}

TEST(Gmlp, WeightsAboveTheDiagonalGetNoGradient) {
  const SmallModel small = make_small_model(small_options(), kVocabulary, at::kFloat, 5);
  small.model->loss_sum(random_tokens({3, 5}, kVocabulary, 1), random_tokens({3, 5}, kVocabulary, 2))
      .backward();
  for (std::size_t i = 0; i < small.specs.size(); ++i) {
    if (!small.specs[i].name.ends_with("sgu.weight")) continue;
    EXPECT_EQ(small.leaves[i].grad().triu(1).abs().max().item<double>(), 0.0);
    EXPECT_GT(small.leaves[i].grad().abs().max().item<double>(), 0.0);
  }
}

TEST(Gmlp, RefusesWhatItCannotRun) {
  const SmallModel small = make_small_model(small_options(), kVocabulary, at::kFloat, 5);
  EXPECT_THROW((void)small.model->logits(random_tokens({1, 6}, kVocabulary, 1)), c10::Error);
  EXPECT_THROW((void)small.model->loss_sum(random_tokens({1, 4}, kVocabulary, 1),
                                           random_tokens({1, 5}, kVocabulary, 1)),
               c10::Error);
  std::vector<at::Tensor> too_few(small.leaves.begin(), small.leaves.end() - 1);
  EXPECT_THROW((void)model::make_model(small.options, kVocabulary, too_few), c10::Error);
  EXPECT_THROW((void)model::make_model(small.options, kVocabulary + 1, small.leaves), c10::Error);
}

}  // namespace
}  // namespace sluice::testing
