#include "trainer/train/generate.h"

#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <stdexcept>

#include "tests/support/small_model.h"

namespace sluice::train {
namespace {

constexpr std::int64_t kVocabulary = 13;
constexpr std::int64_t kPositions = 7;

testing::SmallModel small_model(std::uint64_t seed) {
  model::ModelOptions options;
  options.layers = 2;
  options.d_model = 8;
  options.d_ffn = 12;
  options.seq_len = kPositions;
  return testing::make_small_model(options, kVocabulary, at::kDouble, seed);
}

/// The distribution after `tokens` by a whole forward pass.
std::vector<double> full_logits(const testing::SmallModel& small, const std::vector<std::int64_t>& tokens) {
  const at::NoGradGuard no_grad;
  const at::Tensor tokens_BT = at::tensor(at::ArrayRef<std::int64_t>(tokens)).unsqueeze(0);
  const at::Tensor last =
      small.model->logits(tokens_BT)[0][static_cast<std::int64_t>(tokens.size()) - 1].contiguous();
  return {last.const_data_ptr<double>(), last.const_data_ptr<double>() + last.numel()};
}

/// How many of the last tokens a window of this slide sees when it holds `length` tokens: it grows to n, then
/// falls back to n - slide + 1 and grows again.
std::int64_t window_length(std::int64_t prompt, std::int64_t length, std::int64_t slide) {
  std::int64_t seen = std::min(prompt, kPositions);
  for (std::int64_t at = prompt; at < length; ++at)
    seen = seen < kPositions ? seen + 1 : kPositions - slide + 1;
  return seen;
}

/// Generation that knows no cache: a whole forward pass for every token.
std::vector<std::int64_t> generate_plainly(const testing::SmallModel& small, std::int64_t slide,
                                           const SamplingOptions& sampling, std::vector<std::int64_t> tokens,
                                           std::int64_t count) {
  const auto prompt = static_cast<std::int64_t>(tokens.size());
  for (std::int64_t draw = 0; draw < count; ++draw) {
    const std::int64_t seen = window_length(prompt, static_cast<std::int64_t>(tokens.size()), slide);
    tokens.push_back(choose_token(full_logits(small, {tokens.end() - seen, tokens.end()}), sampling, draw));
  }
  return {tokens.begin() + prompt, tokens.end()};
}

std::vector<std::int64_t> generated(const testing::SmallModel& small, std::int64_t slide,
                                    const SamplingOptions& sampling, const std::vector<std::int64_t>& prompt,
                                    std::int64_t count) {
  std::vector<std::int64_t> out;
  generate(*small.model, {.seq_len = kPositions, .slide = slide}, sampling, prompt, count,
           [&](std::int64_t token) { out.push_back(token); });
  return out;
}

RC_GTEST_PROP(Generate, EqualsAFullForwardForEveryToken, (std::uint64_t seed, bool greedy)) {
  const auto small = small_model(seed);
  const auto prompt = *rc::gen::nonEmpty(
      rc::gen::container<std::vector<std::int64_t>>(rc::gen::inRange<std::int64_t>(0, kVocabulary)));
  const auto slide = *rc::gen::inRange<std::int64_t>(1, kPositions + 1);
  const SamplingOptions sampling{.temperature = greedy ? 0.0 : 0.9, .top_k = 9, .top_p = 0.97, .seed = seed};
  constexpr std::int64_t kCount = 3 * kPositions;
  RC_ASSERT(generated(small, slide, sampling, prompt, kCount) ==
            generate_plainly(small, slide, sampling, prompt, kCount));
}

RC_GTEST_PROP(Generate, WindowIsAlwaysTheLastTokens, (std::uint64_t seed)) {
  const auto small = small_model(seed);
  const auto slide = *rc::gen::inRange<std::int64_t>(1, kPositions + 1);
  const auto prompt = *rc::gen::inRange<std::int64_t>(1, 2 * kPositions);
  std::vector<std::int64_t> tokens;
  for (std::int64_t i = 0; i < prompt; ++i) tokens.push_back(*rc::gen::inRange<std::int64_t>(0, kVocabulary));
  DecodingWindow text(*small.model, {.seq_len = kPositions, .slide = slide}, tokens);
  for (int i = 0; i < 20; ++i) {
    const auto window = text.window();
    RC_ASSERT(std::equal(window.rbegin(), window.rend(), tokens.rbegin()));
    const auto length = static_cast<std::int64_t>(tokens.size());
    const auto seen = static_cast<std::int64_t>(window.size());
    RC_ASSERT(seen >= std::min(length, kPositions - slide + 1));
    RC_ASSERT(seen <= kPositions);
    if (slide == 1) RC_ASSERT(seen == std::min(length, kPositions));
    tokens.push_back(*rc::gen::inRange<std::int64_t>(0, kVocabulary));
    text.append(tokens.back());
  }
}

TEST(Generate, TheSeedDecides) {
  const auto small = small_model(5);
  const auto first = generated(small, 2, {.temperature = 1.5, .seed = 1}, {3}, 40);
  EXPECT_EQ(first, generated(small, 2, {.temperature = 1.5, .seed = 1}, {3}, 40));
  EXPECT_NE(first, generated(small, 2, {.temperature = 1.5, .seed = 2}, {3}, 40));
}

TEST(Generate, CountsTokens) {
  const auto small = small_model(5);
  EXPECT_EQ(generated(small, 1, {}, {3}, 0).size(), 0U);
  EXPECT_EQ(generated(small, 1, {}, {3}, 1).size(), 1U);
  EXPECT_EQ(generated(small, 1, {}, {3}, 25).size(), 25U);
}

TEST(Generate, DefaultSlideIsAQuarterOfThePositions) {
  EXPECT_EQ(default_slide(256), 64);
  EXPECT_EQ(default_slide(3), 1);
}

TEST(Generate, RefusesAnEmptyPromptAndASlideOutOfRange) {
  const auto small = small_model(5);
  EXPECT_THROW((void)generated(small, 1, {}, {}, 1), std::invalid_argument);
  EXPECT_THROW((void)generated(small, 0, {}, {1}, 1), std::invalid_argument);
  EXPECT_THROW((void)generated(small, kPositions + 1, {}, {1}, 1), std::invalid_argument);
}

}  // namespace
}  // namespace sluice::train
