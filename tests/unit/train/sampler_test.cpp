#include "trainer/train/sampler.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <stdexcept>

namespace sluice::train {
namespace {

std::vector<double> random_logits(std::int64_t count, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal(0.0, 2.0);
  std::vector<double> logits(static_cast<std::size_t>(count));
  for (double& logit : logits) logit = normal(engine);
  return logits;
}

/// Softmax over all tokens, in long double and in the tokens' order.
std::vector<long double> softmax(const std::vector<double>& logits, double temperature) {
  std::vector<long double> out;
  long double sum = 0.0L;
  for (const double logit : logits) {
    out.push_back(std::exp(static_cast<long double>(logit) / temperature));
    sum += out.back();
  }
  for (auto& p : out) p /= sum;
  return out;
}

/// Probability of each kept token by definition: a token is among the top k if fewer than k others go before
/// it; it is in the nucleus if the kept ones before it weigh less than top_p.
std::map<std::int64_t, long double> by_definition(const std::vector<double>& logits,
                                                  const SamplingOptions& options) {
  const auto p = softmax(logits, options.temperature);
  const auto goes_before = [&](std::size_t a, std::size_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
  };
  std::vector<std::size_t> top;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    std::int64_t before = 0;
    for (std::size_t j = 0; j < logits.size(); ++j) before += goes_before(j, i) ? 1 : 0;
    if (options.top_k == 0 || before < options.top_k) top.push_back(i);
  }
  long double top_sum = 0.0L;
  for (const std::size_t i : top) top_sum += p[i];
  std::map<std::int64_t, long double> kept;
  long double kept_sum = 0.0L;
  for (const std::size_t i : top) {
    long double before = 0.0L;
    for (const std::size_t j : top) before += goes_before(j, i) ? p[j] / top_sum : 0.0L;
    if (options.top_p < 1.0 && before >= options.top_p) continue;
    kept[static_cast<std::int64_t>(i)] = p[i];
    kept_sum += p[i];
  }
  for (auto& [token, probability] : kept) probability /= kept_sum;
  return kept;
}

RC_GTEST_PROP(Sampler, CandidatesAreThoseOfTheDefinition, (std::uint64_t seed)) {
  const auto logits = random_logits(*rc::gen::inRange<std::int64_t>(1, 40), seed);
  const SamplingOptions options{.temperature = *rc::gen::element(0.3, 0.7, 1.0, 1.8),
                                .top_k = *rc::gen::inRange<std::int64_t>(0, 45),
                                .top_p = *rc::gen::element(0.05, 0.31, 0.77, 0.95, 1.0)};
  const auto expected = by_definition(logits, options);
  const auto found = candidates(logits, options);
  RC_ASSERT(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    RC_ASSERT(expected.count(found[i].token) == 1U);
    RC_ASSERT(std::abs(static_cast<double>(expected.at(found[i].token)) - found[i].probability) < 1e-12);
    if (i > 0) RC_ASSERT(found[i - 1].probability >= found[i].probability);
  }
}

TEST(Sampler, EqualLogitsAreKeptFromTheLowestId) {
  const auto found = candidates(std::vector<double>{1.0, 2.0, 2.0, 2.0}, {.top_k = 2});
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].token, 1);
  EXPECT_EQ(found[1].token, 2);
}

RC_GTEST_PROP(Sampler, ATemperatureNearZeroIsGreedy, (std::uint64_t seed)) {
  const auto logits = random_logits(*rc::gen::inRange<std::int64_t>(1, 40), seed);
  const std::int64_t best = std::max_element(logits.begin(), logits.end()) - logits.begin();
  for (const double temperature : {0.0, 1e-300, 1e-9}) {
    for (std::int64_t draw = 0; draw < 5; ++draw) {
      RC_ASSERT(choose_token(logits, {.temperature = temperature, .seed = seed}, draw) == best);
    }
  }
}

TEST(Sampler, DrawsFollowTheDistribution) {
  const std::vector<double> logits = {0.0, std::log(2.0), std::log(5.0),
                                      -40.0};  // 1 : 2 : 5 : nearly nothing
  constexpr std::int64_t kDraws = 80'000;
  std::vector<double> counts(logits.size(), 0.0);
  for (std::int64_t draw = 0; draw < kDraws; ++draw) {
    counts[static_cast<std::size_t>(choose_token(logits, {.seed = 7}, draw))] += 1.0;
  }
  const std::vector<double> expected = {kDraws / 8.0, kDraws / 4.0, kDraws * 5.0 / 8.0};
  double chi_squared = 0.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    chi_squared += (counts[i] - expected[i]) * (counts[i] - expected[i]) / expected[i];
  }
  EXPECT_LT(chi_squared, 13.8);  // 2 degrees of freedom: exceeded by one seed in a thousand
  EXPECT_EQ(counts[3], 0.0);
}

TEST(Sampler, DrawsAreAFunctionOfSeedAndNumber) {
  EXPECT_EQ(uniform_draw(3, 5), uniform_draw(3, 5));
  EXPECT_NE(uniform_draw(3, 5), uniform_draw(3, 6));
  EXPECT_NE(uniform_draw(3, 5), uniform_draw(4, 5));
  // Written down once: a change would give every user other texts for the same seed.
  EXPECT_EQ(uniform_draw(0, 0), 0x1.4e0dba5e9a32fp-1);
  EXPECT_EQ(uniform_draw(1234567, 89), 0x1.def6b0b1f8f80p-4);
}

TEST(Sampler, RefusesWhatCannotBeSampled) {
  const std::vector<double> logits = {1.0, 2.0};
  EXPECT_THROW((void)candidates(std::vector<double>{}, {}), std::invalid_argument);
  EXPECT_THROW((void)candidates(std::vector<double>{1.0, std::nan("")}, {}), std::invalid_argument);
  EXPECT_THROW((void)candidates(logits, {.temperature = -1.0}), std::invalid_argument);
  EXPECT_THROW((void)candidates(logits, {.top_k = -1}), std::invalid_argument);
  EXPECT_THROW((void)candidates(logits, {.top_p = 0.0}), std::invalid_argument);
  EXPECT_THROW((void)candidates(logits, {.top_p = 1.5}), std::invalid_argument);
}

}  // namespace
}  // namespace sluice::train
