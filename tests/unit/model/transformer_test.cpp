#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/small_model.h"
#include "trainer/kernels/autograd.h"

// What a Transformer owes its users beside the equations, which tests/parity compares with plain PyTorch.
namespace sluice::testing {
namespace {

model::ModelOptions gpt2_like() {
  model::ModelOptions options;
  options.kind = "transformer";
  options.layers = 2;
  options.d_model = 12;
  options.d_ffn = 20;
  options.seq_len = kSmallPositions;
  options.heads = 3;
  options.positions = "learned";
  options.gelu = "tanh";
  return options;
}

model::ModelOptions llama_like() {
  model::ModelOptions options = gpt2_like();
  options.positions = "rotary";
  options.norm = "rms";
  options.mlp = "swiglu";
  options.gelu = "exact";
  options.bias = false;
  options.tied = false;
  return options;
}

/// A decoder with T5's positions, and one that knows nothing else of where to look.
model::ModelOptions relative() {
  model::ModelOptions options = gpt2_like();
  options.positions = "relative";
  return options;
}

model::ModelOptions positions_only() {
  model::ModelOptions options = relative();
  options.attention = "positions_only";
  return options;
}

model::ModelOptions encoder() {
  model::ModelOptions options = relative();
  options.causal = false;
  return options;
}

model::ModelOptions mixer() {
  model::ModelOptions options = encoder();
  options.kind = "mixer";
  options.positions = "learned";
  options.d_spatial = 7;
  return options;
}

std::vector<model::ModelOptions> decoders() {
  return {gpt2_like(), llama_like(), relative(), positions_only()};
}
std::vector<model::ModelOptions> families() {
  return {gpt2_like(), llama_like(), relative(), positions_only(), encoder(), mixer()};
}

std::string name_of(const model::ModelOptions& o) {
  return o.kind + " " + o.positions + " " + o.attention + (o.causal ? "" : " not causal");
}

struct Trained {
  double loss = 0;
  at::Tensor gradients;
  std::vector<int> callbacks;
};

/// Two micro-batches, gradients adding up.
Trained train(const model::ModelOptions& options, at::ScalarType dtype, model::Recompute recompute) {
  const SmallModel small = make_small_model(options, kSmallVocabulary, dtype, 5, recompute);
  Trained trained{
      .loss = 0, .gradients = small.gradients, .callbacks = std::vector<int>(small.leaves.size())};
  for (std::size_t i = 0; i < small.leaves.size(); ++i)
    kernels::on_gradient_ready(small.leaves[i], [&trained, i] { ++trained.callbacks[i]; });
  for (const std::uint64_t micro : {1, 2}) {
    const at::Tensor loss =
        small.model->loss_sum(random_tokens({3, kSmallPositions}, kSmallVocabulary, micro),
                              random_tokens({3, kSmallPositions}, kSmallVocabulary, micro + 10));
    loss.backward();
    trained.loss += loss.item<double>();
  }
  return trained;
}

TEST(Transformer, RecomputeChangesNoBitAndTellsOfEveryGradientOnce) {
  for (const model::ModelOptions& options : families()) {
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
      SCOPED_TRACE(name_of(options) + " " + c10::toString(dtype));
      const Trained kept = train(options, dtype, model::Recompute::kNone);
      const Trained again = train(options, dtype, model::Recompute::kBlock);
      EXPECT_EQ(again.loss, kept.loss);
      EXPECT_TRUE(at::equal(again.gradients, kept.gradients));
      EXPECT_EQ(kept.callbacks, std::vector<int>(kept.callbacks.size(), 2));
      EXPECT_EQ(again.callbacks, std::vector<int>(again.callbacks.size(), 2));
    }
  }
}

TEST(Transformer, BFloat16IsNearFloat64) {
  for (const model::ModelOptions& options : families()) {
    const SmallModel narrow = make_small_model(options, kSmallVocabulary, at::kBFloat16, 5);
    const SmallModel wide = make_small_model(options, kSmallVocabulary, at::kDouble, 5);
    const at::Tensor tokens = random_tokens({3, kSmallPositions}, kSmallVocabulary, 1);
    const at::Tensor targets = random_tokens({3, kSmallPositions}, kSmallVocabulary, 2);
    const at::Tensor loss = narrow.model->loss_sum(tokens, targets);
    ASSERT_EQ(loss.scalar_type(), at::kFloat);
    EXPECT_LT(relative_error(loss, wide.model->loss_sum(tokens, targets)), 0.02) << name_of(options);
    EXPECT_LT(relative_error(narrow.model->logits(tokens), wide.model->logits(tokens)), 0.04)
        << name_of(options);
  }
}

TEST(Transformer, TrainsOnMicroBatchesAsOnTheWholeBatch) {
  for (const model::ModelOptions& options : families()) {
    const at::Tensor tokens = random_tokens({5, kSmallPositions}, kSmallVocabulary, 3);
    const at::Tensor targets = random_tokens({5, kSmallPositions}, kSmallVocabulary, 4);
    const SmallModel whole = make_small_model(options, kSmallVocabulary, at::kDouble, 5);
    const SmallModel split = make_small_model(options, kSmallVocabulary, at::kDouble, 5);
    whole.model->loss_sum(tokens, targets).backward();
    split.model->loss_sum(tokens.narrow(0, 0, 2), targets.narrow(0, 0, 2)).backward();
    split.model->loss_sum(tokens.narrow(0, 2, 3), targets.narrow(0, 2, 3)).backward();
    EXPECT_LT(relative_error(split.gradients, whole.gradients), 1e-12);
  }
}

TEST(Transformer, AnnouncesParametersInTheirOrderBeforeItUsesThem) {
  for (const model::ModelOptions& options : families()) {
    const SmallModel small = make_small_model(options, kSmallVocabulary, at::kFloat, 5);
    std::vector<std::int64_t> announced;
    small.model->on_parameter_use([&](std::int64_t last) { announced.push_back(last); });
    (void)small.model->logits(random_tokens({1, kSmallPositions}, kSmallVocabulary, 1));
    std::vector<std::int64_t> expected;  // the last index of each part
    for (std::size_t i = 0; i + 1 < small.specs.size(); ++i) {
      const auto part = [&](std::size_t index) {
        const std::string& name = small.specs[index].name;
        if (name.starts_with("blocks.")) return name.substr(0, name.find('.', 7));
        return std::string(name.starts_with("norm") || name.starts_with("head") ? "end" : "start");
      };
      if (part(i) != part(i + 1)) expected.push_back(static_cast<std::int64_t>(i));
    }
    expected.push_back(static_cast<std::int64_t>(small.specs.size()) - 1);
    EXPECT_EQ(announced, expected);
  }
}

RC_GTEST_PROP(Transformer, LaterTokensNeverChangeEarlierLogits, (std::uint64_t seed)) {
  const model::ModelOptions options = *rc::gen::elementOf(decoders());
  const auto length = *rc::gen::inRange<std::int64_t>(2, kSmallPositions + 1);
  const auto changed = *rc::gen::inRange<std::int64_t>(1, length);
  const SmallModel small = make_small_model(options, kSmallVocabulary, at::kFloat, seed);
  const at::Tensor tokens = random_tokens({2, length}, kSmallVocabulary, seed + 1);
  const at::Tensor other = at::cat(
      {tokens.narrow(1, 0, changed), random_tokens({2, length - changed}, kSmallVocabulary, seed + 2)}, 1);
  const at::Tensor before = small.model->logits(tokens).narrow(1, 0, changed);
  const at::Tensor after = small.model->logits(other).narrow(1, 0, changed);
  RC_ASSERT(at::equal(before, after));
}

/// Logits of attention without any position encoding do not change when the tokens before the last one are
/// put in another order; with any of the encodings they do.
TEST(Transformer, PositionsMatterJustWhereTheyAreEncoded) {
  for (const std::string positions :
       {"none", "sinusoidal", "learned", "rotary", "relative", "learned+relative"}) {
    model::ModelOptions options = gpt2_like();
    options.positions = positions;
    options.layers = 1;  // a second one would see which tokens the first one's positions saw
    const SmallModel small = make_small_model(options, kSmallVocabulary, at::kDouble, 5);
    const at::Tensor tokens = random_tokens({1, 4}, kSmallVocabulary, 7);
    const at::Tensor other = at::cat({tokens.narrow(1, 0, 3).flip({1}), tokens.narrow(1, 3, 1)}, 1);
    ASSERT_FALSE(at::equal(tokens, other));
    const double change = relative_error(small.model->logits(other)[0][3], small.model->logits(tokens)[0][3]);
    if (positions == "none") {
      EXPECT_LT(change, 1e-12);
    } else {
      EXPECT_GT(change, 1e-3) << positions;
    }
  }
}

TEST(Transformer, RefusesWhatItCannotRun) {
  const SmallModel small = make_small_model(gpt2_like(), kSmallVocabulary, at::kFloat, 5);
  EXPECT_THROW((void)small.model->logits(random_tokens({1, kSmallPositions + 1}, kSmallVocabulary, 1)),
               c10::Error);
  EXPECT_THROW((void)small.model->loss_sum(random_tokens({1, 4}, kSmallVocabulary, 1),
                                           random_tokens({1, 5}, kSmallVocabulary, 1)),
               c10::Error);
  std::vector<at::Tensor> too_few(small.leaves.begin(), small.leaves.end() - 1);
  EXPECT_THROW((void)model::make_model(small.options, kSmallVocabulary, too_few), c10::Error);
  EXPECT_THROW(
      (void)model::make_model(small.options, kSmallVocabulary, small.leaves, model::Recompute::kGate),
      c10::Error);
  model::ModelOptions uneven = gpt2_like();
  uneven.heads = 5;
  EXPECT_THROW((void)model::parameter_specs(uneven, kSmallVocabulary), c10::Error);
  model::ModelOptions blind = positions_only();
  blind.positions = "learned";
  EXPECT_THROW((void)model::parameter_specs(blind, kSmallVocabulary), c10::Error);
}

TEST(Mixer, RefusesToBeCausalToDecodeAndToReadMoreThanItsPositions) {
  model::ModelOptions causal = mixer();
  causal.causal = true;
  EXPECT_THROW((void)model::parameter_specs(causal, kSmallVocabulary), c10::Error);
  const SmallModel small = make_small_model(mixer(), kSmallVocabulary, at::kFloat, 5);
  EXPECT_THROW((void)small.model->make_cache(), c10::Error);
  EXPECT_THROW((void)small.model->logits(random_tokens({1, kSmallPositions + 1}, kSmallVocabulary, 1)),
               c10::Error);
  EXPECT_THROW(
      (void)model::make_model(small.options, kSmallVocabulary, small.leaves, model::Recompute::kGate),
      c10::Error);
}

/// Prefills `prompt` tokens, decodes the others one by one; the largest relative error of any row of logits.
double worst_error(const SmallModel& small, const at::Tensor& tokens_T, std::int64_t prompt,
                   model::DecodeCache& cache) {
  const at::Tensor full = small.model->logits(tokens_T.unsqueeze(0))[0];
  double worst = relative_error(small.model->prefill(tokens_T.narrow(0, 0, prompt), cache), full[prompt - 1]);
  for (std::int64_t t = prompt; t < tokens_T.size(0); ++t) {
    const at::Tensor logits = small.model->decode(tokens_T[t].item<std::int64_t>(), cache);
    worst = std::max(worst, relative_error(logits, full[t]));
  }
  return worst;
}

RC_GTEST_PROP(TransformerDecode, EqualsFullForward, (std::uint64_t seed)) {
  model::ModelOptions options = *rc::gen::elementOf(decoders());
  options.layers = 3;
  const auto length = *rc::gen::inRange<std::int64_t>(1, kSmallPositions + 1);
  const auto prompt = *rc::gen::inRange<std::int64_t>(1, length + 1);
  const at::Tensor tokens = random_tokens({length}, kSmallVocabulary, seed);
  const SmallModel wide = make_small_model(options, kSmallVocabulary, at::kDouble, seed);
  const auto cache = wide.model->make_cache();
  RC_ASSERT(worst_error(wide, tokens, prompt, *cache) < 1e-10);
  RC_ASSERT(cache->length() == length);
  RC_ASSERT(worst_error(wide, tokens, prompt, *cache) < 1e-10);  // a prompt empties it
}

TEST(TransformerDecode, RefusesFullCachesThoseOfOthersAndModelsThatSeeTheFuture) {
  const SmallModel small = make_small_model(gpt2_like(), kSmallVocabulary, at::kFloat, 1);
  const auto cache = small.model->make_cache();
  EXPECT_THROW((void)small.model->prefill(random_tokens({0}, kSmallVocabulary, 2), *cache), c10::Error);
  const at::Tensor logits =
      small.model->prefill(random_tokens({kSmallPositions}, kSmallVocabulary, 2), *cache);
  EXPECT_FALSE(logits.requires_grad());
  EXPECT_THROW((void)small.model->decode(1, *cache), c10::Error);

  model::ModelOptions gmlp;
  gmlp.layers = 2, gmlp.d_model = 12, gmlp.d_ffn = 20, gmlp.seq_len = kSmallPositions;
  const SmallModel other = make_small_model(gmlp, kSmallVocabulary, at::kFloat, 1);
  EXPECT_THROW(
      (void)small.model->prefill(random_tokens({2}, kSmallVocabulary, 2), *other.model->make_cache()),
      c10::Error);

  model::ModelOptions options = gpt2_like();
  options.causal = false;
  const SmallModel full = make_small_model(options, kSmallVocabulary, at::kFloat, 1);
  EXPECT_THROW((void)full.model->prefill(random_tokens({2}, kSmallVocabulary, 2), *full.model->make_cache()),
               c10::Error);
}

}  // namespace
}  // namespace sluice::testing
