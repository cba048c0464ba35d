#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/support/small_model.h"
#include "tests/unit/model/gmlp_variants.h"

// Incremental decoding equals the full forward.
namespace sluice::testing {
namespace {

model::ModelOptions decode_options() {
  model::ModelOptions options;
  options.layers = 3;
  options.d_model = 8;
  options.d_ffn = 20;
  options.seq_len = kSmallPositions;
  return options;
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

RC_GTEST_PROP(Decode, EqualsFullForward, (std::uint64_t seed, bool tied, bool sinusoidal, bool scaled)) {
  model::ModelOptions options = decode_options();
  options.tied = tied;
  options.head_bias = !tied;
  options.positions = sinusoidal ? "sinusoidal" : "none";
  options.scale_embedding = scaled;
  const auto length = *rc::gen::inRange<std::int64_t>(1, kSmallPositions + 1);
  const auto prompt = *rc::gen::inRange<std::int64_t>(1, length + 1);
  const at::Tensor tokens = random_tokens({length}, kSmallVocabulary, seed);
  const SmallModel wide = make_small_model(options, kSmallVocabulary, at::kDouble, seed);
  RC_ASSERT(worst_error(wide, tokens, prompt, *wide.model->make_cache()) < 1e-10);
  const SmallModel narrow = make_small_model(options, kSmallVocabulary, at::kFloat, seed);
  RC_ASSERT(worst_error(narrow, tokens, prompt, *narrow.model->make_cache()) < 1e-5);
}

class DecodeVariant : public ::testing::TestWithParam<NamedOptions> {};

TEST_P(DecodeVariant, EqualsFullForwardAfterAPromptOfAnyLength) {
  const SmallModel wide = make_small_model(GetParam().options, kSmallVocabulary, at::kDouble, 7);
  const SmallModel narrow = make_small_model(GetParam().options, kSmallVocabulary, at::kFloat, 7);
  const auto cache = wide.model->make_cache();
  for (std::int64_t prompt = 1; prompt <= kSmallPositions; ++prompt) {
    const at::Tensor tokens =
        random_tokens({kSmallPositions}, kSmallVocabulary, static_cast<std::uint64_t>(prompt));
    EXPECT_LT(worst_error(wide, tokens, prompt, *cache), 1e-10) << prompt;
    EXPECT_LT(worst_error(narrow, tokens, prompt, *narrow.model->make_cache()), 1e-5) << prompt;
  }
}

TEST_P(DecodeVariant, StartsFromAnEmptyCacheToo) {
  const SmallModel small = make_small_model(GetParam().options, kSmallVocabulary, at::kDouble, 7);
  const auto cache = small.model->make_cache();
  const at::Tensor tokens = random_tokens({kSmallPositions}, kSmallVocabulary, 3);
  const at::Tensor full = small.model->logits(tokens.unsqueeze(0))[0];
  for (std::int64_t t = 0; t < kSmallPositions; ++t)
    EXPECT_LT(relative_error(small.model->decode(tokens[t].item<std::int64_t>(), *cache), full[t]), 1e-10);
}

INSTANTIATE_TEST_SUITE_P(Gmlp, DecodeVariant, ::testing::ValuesIn(gmlp_variants()),
                         [](const auto& instance) { return instance.param.name; });

TEST(Decode, CacheCountsPositionsAndStartsAgainWithEachPrompt) {
  const SmallModel small = make_small_model(decode_options(), kSmallVocabulary, at::kDouble, 1);
  const auto cache = small.model->make_cache();
  EXPECT_EQ(cache->length(), 0);
  EXPECT_LT(worst_error(small, random_tokens({kSmallPositions}, kSmallVocabulary, 2), 4, *cache), 1e-10);
  EXPECT_EQ(cache->length(), kSmallPositions);
  EXPECT_LT(worst_error(small, random_tokens({5}, kSmallVocabulary, 3), 2, *cache), 1e-10);
  EXPECT_EQ(cache->length(), 5);
}

TEST(Decode, StartsFromAnEmptyCacheToo) {
  const SmallModel small = make_small_model(decode_options(), kSmallVocabulary, at::kDouble, 1);
  const auto cache = small.model->make_cache();
  const at::Tensor tokens = random_tokens({1}, kSmallVocabulary, 2);
  const at::Tensor logits = small.model->decode(tokens[0].item<std::int64_t>(), *cache);
  EXPECT_LT(relative_error(logits, small.model->logits(tokens.unsqueeze(0))[0][0]), 1e-12);
}

TEST(Decode, RecordsNoAutograd) {
  const SmallModel small = make_small_model(decode_options(), kSmallVocabulary, at::kFloat, 1);
  const auto cache = small.model->make_cache();
  EXPECT_FALSE(small.model->prefill(random_tokens({3}, kSmallVocabulary, 2), *cache).requires_grad());
  EXPECT_FALSE(small.model->decode(1, *cache).requires_grad());
}

TEST(Decode, RefusesFullCachesEmptyPromptsAndModelsThatSeeTheFuture) {
  const SmallModel small = make_small_model(decode_options(), kSmallVocabulary, at::kFloat, 1);
  const auto cache = small.model->make_cache();
  EXPECT_THROW((void)small.model->prefill(random_tokens({0}, kSmallVocabulary, 2), *cache), c10::Error);
  EXPECT_THROW((void)small.model->prefill(random_tokens({kSmallPositions + 1}, kSmallVocabulary, 2), *cache),
               c10::Error);
  (void)small.model->prefill(random_tokens({kSmallPositions}, kSmallVocabulary, 2), *cache);
  EXPECT_THROW((void)small.model->decode(1, *cache), c10::Error);

  model::ModelOptions options = decode_options();
  options.causal = false;
  const SmallModel full = make_small_model(options, kSmallVocabulary, at::kFloat, 1);
  EXPECT_THROW((void)full.model->prefill(random_tokens({2}, kSmallVocabulary, 2), *full.model->make_cache()),
               c10::Error);
}

}  // namespace
}  // namespace sluice::testing
