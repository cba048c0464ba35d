#include "trainer/train/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

namespace sluice::train {
namespace {

void check(std::span<const double> logits, const SamplingOptions& options) {
  if (logits.empty()) throw std::invalid_argument("sampling from no logits");
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!std::isfinite(logits[i])) {
      throw std::invalid_argument(
          fmt::format("the logit of token {} is {}: the model is not sound", i, logits[i]));
    }
  }
  if (!(options.temperature >= 0.0) || options.top_k < 0 || !(options.top_p > 0.0) || options.top_p > 1.0) {
    throw std::invalid_argument(fmt::format(
        "sampling with temperature {}, top_k {}, top_p {}: allowed are temperature >= 0, top_k >= 0, "
        "0 < top_p <= 1",
        options.temperature, options.top_k, options.top_p));
  }
}

/// exp(logit / temperature), scaled so that the largest is 1.
std::vector<Candidate> weights(std::span<const double> logits, double temperature) {
  const double top = *std::max_element(logits.begin(), logits.end());
  std::vector<Candidate> all;
  all.reserve(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    all.push_back({static_cast<std::int64_t>(i), std::exp((logits[i] - top) / temperature)});
  }
  return all;
}

double total(const std::vector<Candidate>& all) {
  return std::accumulate(all.begin(), all.end(), 0.0,
                         [](double sum, const Candidate& one) { return sum + one.probability; });
}

void normalise(std::vector<Candidate>& all) {
  const double sum = total(all);
  for (auto& one : all) one.probability /= sum;
}

void keep_top_p(std::vector<Candidate>& sorted, double top_p) {
  if (top_p >= 1.0) return;
  double sum = 0.0;
  std::size_t kept = 0;
  while (kept < sorted.size() && sum < top_p) sum += sorted[kept++].probability;
  sorted.resize(kept);
  normalise(sorted);
}

}  // namespace

std::vector<Candidate> candidates(std::span<const double> logits, const SamplingOptions& options) {
  check(logits, options);
  if (options.temperature == 0.0) {
    return {{std::max_element(logits.begin(), logits.end()) - logits.begin(), 1.0}};
  }
  auto all = weights(logits, options.temperature);
  const auto vocabulary = static_cast<std::int64_t>(all.size());
  const std::int64_t keep = options.top_k == 0 ? vocabulary : std::min(options.top_k, vocabulary);
  // By the logits themselves: at a low temperature small weights vanish, and would tie.
  std::partial_sort(all.begin(), all.begin() + keep, all.end(), [&](const Candidate& a, const Candidate& b) {
    const double left = logits[static_cast<std::size_t>(a.token)];
    const double right = logits[static_cast<std::size_t>(b.token)];
    return left != right ? left > right : a.token < b.token;
  });
  all.resize(static_cast<std::size_t>(keep));
  normalise(all);
  keep_top_p(all, options.top_p);
  return all;
}

std::int64_t choose_token(std::span<const double> logits, const SamplingOptions& options, std::int64_t draw) {
  const auto all = candidates(logits, options);
  const double at = uniform_draw(options.seed, draw);
  double sum = 0.0;
  for (const auto& one : all) {
    sum += one.probability;
    if (at < sum) return one.token;
  }
  // Rounding left the sum below `at`: the last token that has any weight.
  const auto last =
      std::find_if(all.rbegin(), all.rend(), [](const Candidate& one) { return one.probability > 0.0; });
  return last->token;
}

double uniform_draw(std::uint64_t seed, std::int64_t draw) {
  const auto mix = [](std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  };
  constexpr std::uint64_t kGamma = 0x9E3779B97F4A7C15ULL;
  const std::uint64_t stream = mix(seed + kGamma);
  const std::uint64_t bits = mix(stream + kGamma * (static_cast<std::uint64_t>(draw) + 1));
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

}  // namespace sluice::train
