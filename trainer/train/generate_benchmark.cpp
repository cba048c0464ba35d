#include "trainer/train/generate_benchmark.h"

#include <ATen/ops/arange.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "trainer/train/generate.h"

namespace sluice::train {
namespace {

constexpr double kLeastSeconds = 0.5;      // of repetitions of each way: single calls take micro-seconds
constexpr std::int64_t kFullLengths = 16;  // lengths at which the whole forward pass is timed

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Tokens/s of `work`, which gives out how many tokens it made. The first call warms up.
double rate(const std::function<std::int64_t()>& work) {
  work();
  std::int64_t tokens = 0;
  const auto start = std::chrono::steady_clock::now();
  do {
    tokens += work();
  } while (seconds_since(start) < kLeastSeconds);
  return static_cast<double>(tokens) / seconds_since(start);
}

}  // namespace

GenerateRates benchmark_generation(const model::LanguageModel& model, std::int64_t seq_len,
                                   std::int64_t vocabulary_size, std::int64_t slide) {
  const at::NoGradGuard no_grad;
  const at::Tensor tokens_T =
      at::arange(seq_len, at::TensorOptions().dtype(at::kLong)).remainder(vocabulary_size);
  const auto* const ids = tokens_T.const_data_ptr<std::int64_t>();
  const std::vector<std::int64_t> prompt(ids, ids + seq_len);
  GenerateRates rates{.slide = slide};

  rates.incremental = rate([&] {
    DecodingWindow text(model, {.seq_len = seq_len, .slide = slide}, {prompt.front()});
    for (std::int64_t t = 1; t < seq_len; ++t) text.append(prompt[static_cast<std::size_t>(t)]);
    return seq_len;
  });
  const std::int64_t lengths = std::min(seq_len, kFullLengths);
  rates.full = rate([&] {
    for (std::int64_t k = 1; k <= lengths; ++k)
      (void)model.logits(
          tokens_T.narrow(0, 0, std::max<std::int64_t>(1, seq_len * k / lengths)).unsqueeze(0));
    return lengths;
  });
  DecodingWindow text(model, {.seq_len = seq_len, .slide = slide}, prompt);
  rates.sliding = rate([&] {
    for (std::int64_t t = 0; t < slide; ++t) text.append(prompt[static_cast<std::size_t>(t)]);
    return slide;
  });
  return rates;
}

}  // namespace sluice::train
