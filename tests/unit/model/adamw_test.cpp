#include "trainer/optim/adamw.h"

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace sluice::optim {
namespace {

at::Tensor random_flat(std::int64_t size, at::ScalarType dtype, std::uint64_t seed) {
  at::Tensor out = at::empty({size}, at::TensorOptions().dtype(at::kDouble));
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  for (std::int64_t i = 0; i < size; ++i) out.data_ptr<double>()[i] = normal(engine);
  return out.to(dtype);
}

std::vector<double> as_doubles(const at::Tensor& flat) {
  const at::Tensor wide = flat.to(at::kDouble);
  return {wide.const_data_ptr<double>(), wide.const_data_ptr<double>() + wide.numel()};
}

double norm_of(const at::Tensor& flat) { return global_norm(slice_sums(flat, {{0, flat.numel()}})); }

/// One element after the given gradients, as the papers' algorithms read.
double plain_loop(const OptimOptions& options, double parameter, const std::vector<double>& gradients,
                  double lr, bool decays) {
  double m = 0, v = 0;
  for (std::size_t t = 1; t <= gradients.size(); ++t) {
    double g = gradients[t - 1];
    if (decays && options.kind == "adam") g += options.weight_decay * parameter;
    if (decays && options.kind == "adamw") parameter -= lr * options.weight_decay * parameter;
    m = options.betas[0] * m + (1 - options.betas[0]) * g;
    v = options.betas[1] * v + (1 - options.betas[1]) * g * g;
    const double m_hat = m / (1 - std::pow(options.betas[0], static_cast<double>(t)));
    const double v_hat = v / (1 - std::pow(options.betas[1], static_cast<double>(t)));
    parameter -= lr * m_hat / (std::sqrt(v_hat) + options.eps);
  }
  return parameter;
}

RC_GTEST_PROP(AdamW, FollowsThePlainLoopOverSeveralSteps, (std::uint64_t seed, bool decoupled, bool narrow)) {
  OptimOptions options;
  options.kind = decoupled ? "adamw" : "adam";
  options.weight_decay = 0.3;
  const at::ScalarType dtype = narrow ? at::kFloat : at::kDouble;
  const auto size = *rc::gen::inRange<std::int64_t>(1, 60);
  const auto begin = *rc::gen::inRange<std::int64_t>(0, size + 1);
  const auto end = *rc::gen::inRange<std::int64_t>(begin, size + 1);
  const at::Tensor parameters = random_flat(size, dtype, seed);
  const std::vector<double> start = as_doubles(parameters);
  AdamW optimizer(options, parameters, {{begin, end}});
  constexpr int kSteps = 6;
  constexpr double kScale = 0.25;
  std::vector<std::vector<double>> gradients(static_cast<std::size_t>(size));
  for (int step = 1; step <= kSteps; ++step) {
    const at::Tensor gradient = random_flat(size, dtype, seed + static_cast<std::uint64_t>(step));
    const std::vector<double> values = as_doubles(gradient);
    for (std::size_t i = 0; i < values.size(); ++i) gradients[i].push_back(kScale * values[i]);
    optimizer.step(gradient, 0.05, kScale, step);
  }
  const std::vector<double> end_values = as_doubles(parameters);
  for (std::size_t i = 0; i < end_values.size(); ++i) {
    const auto position = static_cast<std::int64_t>(i);
    const double expected =
        plain_loop(options, start[i], gradients[i], 0.05, begin <= position && position < end);
    RC_ASSERT(std::abs(end_values[i] - expected) < (narrow ? 2e-6 : 1e-13) * (1 + std::abs(expected)));
  }
}

TEST(AdamW, DecaysInsideItsRangesOnly) {
  OptimOptions options;
  options.weight_decay = 0.5;
  const at::Tensor parameters = at::zeros({10}).fill_(1.0);
  AdamW optimizer(options, parameters, {{1, 3}, {3, 4}, {8, 10}});
  optimizer.step(at::zeros({10}), 0.1, 1.0, 1);
  const std::vector<double> kept = {1, .95, .95, .95, 1, 1, 1, 1, .95, .95};
  for (std::size_t i = 0; i < kept.size(); ++i)
    EXPECT_FLOAT_EQ(static_cast<float>(as_doubles(parameters)[i]), static_cast<float>(kept[i]));
}

TEST(AdamW, GivesTheSameBitsForAnyNumberOfThreads) {
  constexpr std::int64_t kSize = 300'001;
  const at::Tensor gradient = random_flat(kSize, at::kFloat, 9);
  const int threads_before = at::get_num_threads();
  std::vector<at::Tensor> results;
  std::vector<double> norms;
  for (const int threads : {1, 2, 3, 5}) {
    at::set_num_threads(threads);
    const at::Tensor parameters = random_flat(kSize, at::kFloat, 8);
    AdamW optimizer(OptimOptions{}, parameters, {{5, 1000}, {40'000, 200'001}});
    for (int step = 1; step <= 3; ++step) optimizer.step(gradient, 0.01, 0.7, step);
    results.push_back(parameters);
    norms.push_back(norm_of(parameters));
  }
  at::set_num_threads(threads_before);
  for (std::size_t i = 1; i < results.size(); ++i) {
    EXPECT_TRUE(at::equal(results[0], results[i]));
    EXPECT_EQ(norms[0], norms[i]);
  }
}

TEST(AdamW, ContinuesFromItsMoments) {
  const auto gradient = [](std::uint64_t step) { return random_flat(40, at::kFloat, 100 + step); };
  const at::Tensor straight = random_flat(40, at::kFloat, 1);
  AdamW one(OptimOptions{}, straight, {{0, 20}});
  for (int step = 1; step <= 6; ++step) one.step(gradient(static_cast<std::uint64_t>(step)), 0.01, 1.0, step);

  const at::Tensor resumed = random_flat(40, at::kFloat, 1);
  AdamW before(OptimOptions{}, resumed, {{0, 20}});
  for (int step = 1; step <= 3; ++step)
    before.step(gradient(static_cast<std::uint64_t>(step)), 0.01, 1.0, step);
  AdamW after(OptimOptions{}, resumed, {{0, 20}});
  after.first_moment().copy_(before.first_moment());
  after.second_moment().copy_(before.second_moment());
  for (int step = 4; step <= 6; ++step)
    after.step(gradient(static_cast<std::uint64_t>(step)), 0.01, 1.0, step);
  EXPECT_TRUE(at::equal(straight, resumed));
}

RC_GTEST_PROP(AdamW, OwnersOfPartsTogetherGiveTheBitsOfOneOwner, (std::uint64_t seed, bool narrow)) {
  const at::ScalarType dtype = narrow ? at::kFloat : at::kDouble;
  const auto size = *rc::gen::inRange<std::int64_t>(1, 200);
  auto borders = *rc::gen::container<std::vector<std::int64_t>>(rc::gen::inRange<std::int64_t>(0, size + 1));
  borders.insert(borders.end(), {0, size});
  std::ranges::sort(borders);
  std::vector<std::vector<Range>> owned(3);  // runs dealt out in turn
  for (std::size_t i = 0; i + 1 < borders.size(); ++i) owned[i % 3].push_back({borders[i], borders[i + 1]});
  const std::vector<DecayRange> decayed = {{size / 4, size / 2}};

  const at::Tensor want = random_flat(size, dtype, seed);
  AdamW alone(OptimOptions{}, want, decayed);
  const auto compact = [&](const at::Tensor& flat, const std::vector<Range>& ranges) {
    std::vector<at::Tensor> runs = {flat.narrow(0, 0, 0)};
    for (const Range& range : ranges) runs.push_back(flat.narrow(0, range.begin, range.numel()));
    return at::cat(runs);
  };
  std::vector<at::Tensor> parts(owned.size());
  std::vector<AdamW> owners;
  std::vector<at::Tensor> compact_parts(owned.size());
  for (std::size_t i = 0; i < owned.size(); ++i) {
    parts[i] = random_flat(size, dtype, seed);
    compact_parts[i] = compact(parts[i], owned[i]);
    owners.emplace_back(OptimOptions{}, parts[i], decayed, owned[i]);
  }
  for (std::size_t i = 0; i < owned.size(); ++i)
    owners.emplace_back(OptimOptions{}, compact_parts[i], decayed, owned[i]);
  for (int step = 1; step <= 3; ++step) {
    const at::Tensor gradient = random_flat(size, dtype, seed + static_cast<std::uint64_t>(step));
    alone.step(gradient, 0.05, 0.5, step);
    for (AdamW& owner : owners) owner.step(gradient, 0.05, 0.5, step);
  }
  std::int64_t held = 0;
  for (std::size_t i = 0; i < owned.size(); ++i) {
    std::int64_t at = 0;
    for (const Range& range : owned[i]) {
      const auto whole = [&](const at::Tensor& flat) { return flat.narrow(0, range.begin, range.numel()); };
      const auto part = [&](const at::Tensor& flat) { return flat.narrow(0, at, range.numel()); };
      RC_ASSERT(at::equal(whole(parts[i]), whole(want)));
      RC_ASSERT(at::equal(part(owners[i].first_moment()), whole(alone.first_moment())));
      RC_ASSERT(at::equal(part(owners[i].second_moment()), whole(alone.second_moment())));
      at += range.numel();
    }
    RC_ASSERT(owners[i].first_moment().numel() == at);
    RC_ASSERT(at::equal(compact_parts[i], compact(want, owned[i])));
    held += at;
  }
  RC_ASSERT(held == size);
}

TEST(AdamW, RefusesWhatDoesNotFit) {
  const at::Tensor parameters = at::zeros({10});
  EXPECT_THROW(AdamW(OptimOptions{}, at::zeros({2, 5}), {}), c10::Error);
  EXPECT_THROW(AdamW(OptimOptions{}, at::zeros({10}, at::kInt), {}), c10::Error);
  EXPECT_THROW(AdamW(OptimOptions{}, parameters, {{0, 11}}), c10::Error);
  EXPECT_THROW(AdamW(OptimOptions{}, parameters, {{4, 8}, {7, 9}}), c10::Error);
  EXPECT_THROW(AdamW(OptimOptions{}, parameters, {}, {{0, 5}, {4, 10}}), c10::Error);
  EXPECT_THROW(AdamW(OptimOptions{}, parameters, {}, {{5, 11}}), c10::Error);
  OptimOptions sgd;
  sgd.kind = "sgd";
  EXPECT_THROW(AdamW(sgd, parameters, {}), c10::Error);
  AdamW optimizer(OptimOptions{}, parameters, {});
  EXPECT_THROW(optimizer.step(at::zeros({9}), 0.1, 1.0, 1), c10::Error);
  EXPECT_THROW(optimizer.step(at::zeros({10}, at::kDouble), 0.1, 1.0, 1), c10::Error);
  EXPECT_THROW(optimizer.step(at::zeros({10}), 0.1, 1.0, 0), c10::Error);
}

RC_GTEST_PROP(GlobalNorm, IsTheEuclideanNormOfAllSlices, (std::uint64_t seed, bool narrow)) {
  const auto size = *rc::gen::inRange<std::int64_t>(0, 20'000);
  const auto cut = *rc::gen::inRange<std::int64_t>(0, size + 1);
  const at::Tensor flat = random_flat(size, narrow ? at::kFloat : at::kDouble, seed);
  long double sum = 0;
  for (const double value : as_doubles(flat)) sum += static_cast<long double>(value) * value;
  const auto expected = static_cast<double>(std::sqrt(sum));
  const at::Tensor sums = slice_sums(flat, {{cut, size}, {0, 0}, {0, cut}});
  RC_ASSERT(std::abs(global_norm(sums) - expected) <= 1e-13 * expected);
  RC_ASSERT(as_doubles(sums)[1] == 0.0);
  // Owners of single slices add up to the same bits.
  const at::Tensor apart =
      slice_sums(flat, {{cut, size}, {0, 0}, {0, 0}}).add(slice_sums(flat, {{0, 0}, {0, 0}, {0, cut}}));
  RC_ASSERT(at::equal(apart, sums));
}

TEST(GlobalNorm, KeepsSinglePrecisionValuesThatWouldOverflowSquared) {
  EXPECT_DOUBLE_EQ(norm_of(at::zeros({4}).fill_(1e30)), 2 * static_cast<double>(1e30f));
  EXPECT_TRUE(std::isnan(norm_of(at::zeros({9}).fill_(std::nan("")))));
  EXPECT_THROW((void)slice_sums(at::zeros({4}), {{0, 5}}), c10::Error);
  EXPECT_THROW((void)global_norm(at::zeros({4})), c10::Error);
}

/// What kernels::adamw_update does with the scalars, in double, on the papers' algorithms.
RC_GTEST_PROP(UpdateScalars, AreThoseOfThePlainLoop, (std::uint64_t seed, bool decoupled, bool decays)) {
  OptimOptions options;
  options.kind = decoupled ? "adamw" : "adam";
  options.weight_decay = 0.3;
  const std::vector<double> gradients = as_doubles(random_flat(6, at::kDouble, seed));
  double parameter = 0.7, m = 0, v = 0;
  for (std::size_t t = 1; t <= gradients.size(); ++t) {
    const kernels::UpdateScalars s = update_scalars(options, 0.05, static_cast<std::int64_t>(t));
    const double g = gradients[t - 1] + (decays ? s.decay_in_gradient * parameter : 0);
    m = s.beta1 * m + s.one_minus_beta1 * g;
    v = s.beta2 * v + s.one_minus_beta2 * g * g;
    parameter =
        parameter * (decays ? s.keep : 1) - s.step_size * m / (std::sqrt(v) * s.second_correction + s.eps);
    RC_ASSERT(s.clip == options.clip);
  }
  const double expected = plain_loop(options, 0.7, gradients, 0.05, decays);
  RC_ASSERT(std::abs(parameter - expected) < 1e-13 * (1 + std::abs(expected)));
}

TEST(UpdateScalars, RefuseAnUpdateBeforeTheFirst) {
  EXPECT_THROW((void)update_scalars(OptimOptions{}, 0.1, 0), c10::Error);
}

TEST(ClipScale, BringsLargeNormsToTheClip) {
  EXPECT_EQ(clip_scale(4.0, 1.0), 0.25);
  EXPECT_EQ(clip_scale(1.0, 1.0), 1.0);
  EXPECT_EQ(clip_scale(0.0, 1.0), 1.0);
  EXPECT_EQ(clip_scale(1e9, 0.0), 1.0);
}

}  // namespace
}  // namespace sluice::optim
