#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <random>
#include <vector>

#include "tests/support/cross_entropy_cases.h"
#include "tests/support/gpu.h"
#include "tests/support/kernel_tensors.h"
#include "trainer/kernels/cross_entropy.h"
#include "trainer/kernels/device_update.h"
#include "trainer/optim/adamw.h"

// Small sizes and fixed seeds: the program also runs under compute-sanitizer.
namespace sluice::tests {
namespace {

const at::Device kGpu(at::kCUDA, 0);
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

at::Tensor random_flat(std::int64_t size, std::uint64_t seed, float scale = 1) {
  at::Tensor out = at::empty({size}, at::kFloat);
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal(0, scale);
  for (std::int64_t i = 0; i < size; ++i) out.mutable_data_ptr<float>()[i] = normal(engine);
  return out;
}

template <typename Struct>
at::Tensor on_gpu(const Struct& values) {
  at::Tensor out = at::empty({static_cast<std::int64_t>(sizeof(Struct) / sizeof(double))}, at::kDouble);
  std::memcpy(out.mutable_data_ptr(), &values, sizeof(Struct));
  return out.to(kGpu);
}

kernels::Decision read_decision(const at::Tensor& decision_f64) {
  kernels::Decision decision;
  const at::Tensor host = decision_f64.to(at::kCPU);
  std::memcpy(&decision, host.const_data_ptr(), sizeof decision);
  return decision;
}

kernels::Decision decide(const std::vector<double>& sums, const kernels::Agreed& agreed, double clip) {
  at::Tensor slice_sums = at::empty({static_cast<std::int64_t>(sums.size())}, at::kDouble);
  std::copy(sums.begin(), sums.end(), slice_sums.mutable_data_ptr<double>());
  const at::Tensor decision =
      at::full({kernels::kDecision}, 77.0, at::TensorOptions(kGpu).dtype(at::kDouble));
  kernels::UpdateScalars scalars;
  scalars.clip = clip;
  kernels::decide_update(slice_sums.to(kGpu), on_gpu(agreed), on_gpu(scalars), decision);
  return read_decision(decision);
}

/// Flags of a flat buffer of which all is updated.
at::Tensor all_updated(std::int64_t size) {
  return at::zeros({(size + kernels::kDecayBlock - 1) / kernels::kDecayBlock},
                   at::TensorOptions(kGpu).dtype(at::kByte));
}

TEST(SliceSums, AreTheSumsOfSquaresOfTheirSlicesAlone) {
  SLUICE_NEEDS_GPU();
  const std::int64_t size = 60'000;
  const at::Tensor flat = random_flat(size, 1);
  // One element, none, less than a block, exactly one, more, with every remainder by 4; in any order of sums.
  const std::vector<kernels::Slice> slices = {{0, 1, 4},        {4, 4, 0},        {8, 1031, 2},
                                              {1024, 9216, 1},  {9216, 17409, 6}, {17412, 34198, 3},
                                              {34200, size, 8}, {size, size, 7}};
  const at::Tensor sums = at::full({10}, -1.0, at::TensorOptions(kGpu).dtype(at::kDouble));
  kernels::SliceSums(slices, all_updated(size)).run(flat.to(kGpu), sums);
  const at::Tensor found = sums.to(at::kCPU);
  for (const kernels::Slice& slice : slices) {
    const double norm = optim::global_norm(optim::slice_sums(flat, {{slice.begin, slice.end}}));
    EXPECT_NEAR(found[slice.index].item<double>(), norm * norm, 1e-12 * (1 + norm * norm))
        << "[" << slice.begin << ", " << slice.end << ")";
  }
  EXPECT_EQ(found[5].item<double>(), -1.0) << "an element of no slice was written";
  EXPECT_EQ(found[9].item<double>(), -1.0) << "an element of no slice was written";
}

TEST(SliceSums, HaveTheSameBitsWhateverElseIsSummed) {
  SLUICE_NEEDS_GPU();
  const at::Tensor flat = random_flat(40'000, 2).to(kGpu);
  const auto sum_of = [&](const std::vector<kernels::Slice>& slices) {
    const at::Tensor sums = at::zeros({4}, at::TensorOptions(kGpu).dtype(at::kDouble));
    kernels::SliceSums(slices, all_updated(40'000)).run(flat, sums);
    return sums.to(at::kCPU)[0].item<double>();
  };
  const double alone = sum_of({{1024, 30'723, 0}});
  EXPECT_EQ(sum_of({{1024, 30'723, 0}}), alone);
  EXPECT_EQ(sum_of({{0, 1024, 1}, {1024, 30'723, 0}, {0, 40'000, 2}}), alone);
}

/// Slices that begin within a block, of several rounds of the kernel's.
TEST(SliceSums, HaveTheSameBitsWithoutReadingWhatIsNeverUpdated) {
  SLUICE_NEEDS_GPU();
  constexpr std::int64_t kSize = 40'000;
  const std::vector<kernels::Slice> slices = {{4, 9'000, 0}, {9'000, 30'723, 1}, {30'724, kSize, 2}};
  const at::Tensor idle = at::zeros({kSize / kernels::kDecayBlock}, at::kByte);
  for (std::int64_t block = 0; block < idle.numel(); ++block)
    if (block % 3 == 0 || (block > 300 && block < 700))
      idle[block].fill_(static_cast<int>(kernels::BlockUpdate::kNone));
  const at::Tensor never = idle.ne(0).repeat_interleave(kernels::kDecayBlock);
  const at::Tensor flat = random_flat(kSize, 3);
  const auto sums_of = [&](float there, const at::Tensor& blocks) {
    const at::Tensor sums = at::zeros({3}, at::TensorOptions(kGpu).dtype(at::kDouble));
    kernels::SliceSums(slices, blocks).run(flat.masked_fill(never, there).to(kGpu), sums);
    return sums.to(at::kCPU);
  };
  EXPECT_TRUE(at::equal(sums_of(kNan, idle.to(kGpu)), sums_of(0, all_updated(kSize))));
}

TEST(SliceSums, KeepWhatIsTooSmallOrTooLargeForSinglePrecision) {
  SLUICE_NEEDS_GPU();
  for (const float value : {1e-30F, 1e30F}) {
    const at::Tensor flat = at::full({2048}, value, at::TensorOptions(kGpu).dtype(at::kFloat));
    const at::Tensor sums = at::zeros({1}, at::TensorOptions(kGpu).dtype(at::kDouble));
    kernels::SliceSums({{0, 2048, 0}}, all_updated(2048)).run(flat, sums);
    const double expected = 2048 * static_cast<double>(value) * static_cast<double>(value);
    EXPECT_NEAR(sums.to(at::kCPU).item<double>() / expected, 1.0, 1e-12) << value;
  }
}

TEST(SliceSums, RefuseWhatTheyCannotSum) {
  SLUICE_NEEDS_GPU();
  EXPECT_THROW(kernels::SliceSums({{2, 8, 0}}, all_updated(8)), c10::Error);
  EXPECT_THROW(kernels::SliceSums({{8, 4, 0}}, all_updated(8)), c10::Error);
  EXPECT_THROW(kernels::SliceSums({{0, 65, 0}}, all_updated(64)), c10::Error);
  const kernels::SliceSums sums({{0, 8, 1}}, all_updated(8));
  const auto doubles = at::TensorOptions(kGpu).dtype(at::kDouble);
  const auto floats = at::TensorOptions(kGpu).dtype(at::kFloat);
  EXPECT_THROW(sums.run(at::zeros({7}, floats), at::zeros({2}, doubles)), c10::Error);
  EXPECT_THROW(sums.run(at::zeros({8}, floats), at::zeros({1}, doubles)), c10::Error);
  EXPECT_THROW(sums.run(at::zeros({8}, doubles), at::zeros({2}, doubles)), c10::Error);
  EXPECT_THROW(sums.run(at::zeros({8}, at::kFloat), at::zeros({2}, at::kDouble)), c10::Error);
}

TEST(Decide, ClipsAsTheCpuDoesAndPassesOnWhatWasAgreed) {
  SLUICE_NEEDS_GPU();
  for (const double clip : {0.0, 1.0, 5.0, 100.0}) {
    const kernels::Decision decision =
        decide({9.0, 0.0, 16.0}, {.loss_sum = 12.5, .faults = 0, .wishes = 2}, clip);
    EXPECT_EQ(decision.norm, 5.0);
    EXPECT_EQ(decision.scale, optim::clip_scale(5.0, clip)) << clip;
    EXPECT_EQ(decision.loss_sum, 12.5);
    EXPECT_EQ(decision.wishes, 2.0);
    EXPECT_EQ(decision.go, 1.0) << clip;
  }
}

TEST(Decide, AddsMoreSumsThanItHasThreads) {
  SLUICE_NEEDS_GPU();
  const std::vector<double> sums(2001, 4.0);
  EXPECT_NEAR(decide(sums, {}, 0).norm, std::sqrt(8004.0), 1e-12);
  EXPECT_EQ(decide({}, {}, 1.0).norm, 0.0);
}

TEST(Decide, RefusesWhatIsNotFiniteOrFaulty) {
  SLUICE_NEEDS_GPU();
  EXPECT_EQ(decide({1.0, kNan}, {}, 1.0).go, 0.0);
  EXPECT_EQ(decide({1.0, kInfinity}, {}, 1.0).go, 0.0);
  EXPECT_EQ(decide({1.0}, {.loss_sum = kNan}, 1.0).go, 0.0);
  EXPECT_EQ(decide({1.0}, {.loss_sum = -kInfinity}, 1.0).go, 0.0);
  EXPECT_EQ(decide({1.0}, {.loss_sum = 1.0, .faults = 1}, 1.0).go, 0.0);
}

/// A flat slice on the GPU and the same on the CPU under optim::AdamW; blocks 1, 4, 7, ... take decay.
struct Twins {
  Twins(const optim::OptimOptions& options, std::int64_t size, std::uint64_t seed)
      : host(random_flat(size, seed)), flags(at::zeros({(size + kBlock - 1) / kBlock}, at::kByte)) {
    std::vector<optim::DecayRange> decayed;
    for (std::int64_t block = 1; block < flags.numel(); block += 3) {
      flags.mutable_data_ptr<std::uint8_t>()[block] = 1;
      decayed.push_back({block * kBlock, std::min(size, (block + 1) * kBlock)});
    }
    const auto floats = at::TensorOptions(kGpu).dtype(at::kFloat);
    slice = {.parameters = host.to(kGpu),
             .gradients = at::zeros({size}, floats),
             .first = at::zeros({size}, floats),
             .second = at::zeros({size}, floats),
             .compute = at::zeros({size}, floats.dtype(at::kBFloat16)),
             .blocks = flags.to(kGpu)};
    adamw.emplace(options, host, std::move(decayed));
  }
  static constexpr std::int64_t kBlock = kernels::kDecayBlock;
  at::Tensor host;
  at::Tensor flags;
  kernels::UpdateSlice slice;
  std::optional<optim::AdamW> adamw;
};

TEST(Update, HasTheBitsOfTheCpusOverTwentySteps) {
  SLUICE_NEEDS_GPU();
  for (const char* kind : {"adamw", "adam"}) {
    for (const std::int64_t size : {1, 7, 31, 1024, 4099}) {
      optim::OptimOptions options;
      options.kind = kind;
      options.weight_decay = 0.3;
      Twins twins(options, size, 3);
      for (std::int64_t step = 1; step <= 20; ++step) {
        const at::Tensor gradient = random_flat(size, 100 + static_cast<std::uint64_t>(step), 2.0F);
        const double lr = 0.01 * static_cast<double>(step);
        twins.adamw->step(gradient, lr, 0.25, step);
        twins.slice.gradients.copy_(gradient);
        kernels::adamw_update({twins.slice}, on_gpu(optim::update_scalars(options, lr, step)),
                              on_gpu(kernels::Decision{.scale = 0.25, .go = 1}));
      }
      EXPECT_TRUE(same_bits(twins.slice.parameters, twins.host)) << kind << ", " << size;
      EXPECT_TRUE(same_bits(twins.slice.first, twins.adamw->first_moment())) << kind << ", " << size;
      EXPECT_TRUE(same_bits(twins.slice.second, twins.adamw->second_moment())) << kind << ", " << size;
      EXPECT_TRUE(same_bits(twins.slice.compute, twins.host.to(at::kBFloat16))) << kind << ", " << size;
      EXPECT_LE(relative_error(twins.slice.parameters, twins.host, 1.0), 1e-5) << kind << ", " << size;
    }
  }
}

TEST(Update, WritesNothingIfItIsNotToGo) {
  SLUICE_NEEDS_GPU();
  const optim::OptimOptions options;
  Twins twins(options, 1000, 4);
  twins.slice.first.copy_(random_flat(1000, 5));
  twins.slice.second.copy_(random_flat(1000, 6).abs());
  twins.slice.compute.fill_(3.0);
  twins.slice.gradients.fill_(kNan);
  const at::Tensor parameters = twins.slice.parameters.clone();
  const at::Tensor first = twins.slice.first.clone();
  const at::Tensor second = twins.slice.second.clone();
  const at::Tensor compute = twins.slice.compute.clone();

  const at::Tensor sums = at::zeros({1}, at::TensorOptions(kGpu).dtype(at::kDouble));
  kernels::SliceSums({{0, 1000, 0}}, all_updated(parameters.numel())).run(twins.slice.gradients, sums);
  const at::Tensor scalars = on_gpu(optim::update_scalars(options, 0.1, 1));
  const at::Tensor decision = on_gpu(kernels::Decision{});
  kernels::decide_update(sums, on_gpu(kernels::Agreed{.loss_sum = 1}), scalars, decision);
  kernels::adamw_update({twins.slice}, scalars, decision);

  EXPECT_EQ(read_decision(decision).go, 0.0);
  EXPECT_TRUE(same_bits(twins.slice.parameters, parameters));
  EXPECT_TRUE(same_bits(twins.slice.first, first));
  EXPECT_TRUE(same_bits(twins.slice.second, second));
  EXPECT_TRUE(same_bits(twins.slice.compute, compute));
}

TEST(Update, OfASliceLeavesItsNeighboursAndNeedsNoComputeCopy) {
  SLUICE_NEEDS_GPU();
  const optim::OptimOptions options;
  Twins twins(options, 96, 7);
  const at::Tensor before = twins.slice.parameters.clone();
  const auto middle = [](const at::Tensor& flat) { return flat.narrow(0, 32, 32); };
  twins.slice.gradients.fill_(1.0);
  kernels::adamw_update({{.parameters = middle(twins.slice.parameters),
                          .gradients = middle(twins.slice.gradients),
                          .first = middle(twins.slice.first),
                          .second = middle(twins.slice.second),
                          .compute = {},
                          .blocks = twins.slice.blocks.narrow(0, 1, 1)}},
                        on_gpu(optim::update_scalars(options, 0.1, 1)), on_gpu(kernels::Decision{.go = 1}));
  EXPECT_TRUE(same_bits(twins.slice.parameters.narrow(0, 0, 32), before.narrow(0, 0, 32)));
  EXPECT_TRUE(same_bits(twins.slice.parameters.narrow(0, 64, 32), before.narrow(0, 64, 32)));
  EXPECT_TRUE(middle(twins.slice.parameters).ne(middle(before)).all().item<bool>());
  EXPECT_EQ(twins.slice.compute.abs().max().item<float>(), 0.0F);
}

TEST(SplitWindows, ShiftsTargetsAndIgnoresPadding) {
  SLUICE_NEEDS_GPU();
  constexpr std::int64_t kBatch = 5, kLength = 67;
  const at::Tensor windows =
      at::arange(kBatch * (kLength + 1), at::kInt).view({kBatch, kLength + 1}).to(kGpu);
  const auto longs = at::TensorOptions(kGpu).dtype(at::kLong);
  for (const std::int32_t rows : {0, 3, 5}) {
    const at::Tensor tokens = at::zeros({kBatch, kLength}, longs);
    const at::Tensor targets = at::zeros({kBatch, kLength}, longs);
    kernels::split_windows(windows, at::full({1}, rows, at::TensorOptions(kGpu).dtype(at::kInt)), tokens,
                           targets);
    EXPECT_TRUE(at::equal(tokens, windows.narrow(1, 0, kLength).to(at::kLong))) << rows;
    const at::Tensor expected = windows.narrow(1, 1, kLength).to(at::kLong).clone();
    expected.narrow(0, rows, kBatch - rows).fill_(kernels::kIgnoredTarget);
    EXPECT_TRUE(at::equal(targets, expected)) << rows;
  }
}

TEST(SplitWindows, TakesInputsFromTheFrontAndTargetsFromTheBackOfALongRow) {
  SLUICE_NEEDS_GPU();
  constexpr std::int64_t kBatch = 3, kLength = 67;
  const at::Tensor rows = at::arange(kBatch * 2 * kLength, at::kInt).view({kBatch, 2 * kLength}).to(kGpu);
  const at::Tensor tokens = at::zeros({kBatch, kLength}, at::TensorOptions(kGpu).dtype(at::kLong));
  const at::Tensor targets = at::zeros_like(tokens);
  kernels::split_windows(rows, at::full({1}, 2, at::TensorOptions(kGpu).dtype(at::kInt)), tokens, targets);
  EXPECT_TRUE(at::equal(tokens, rows.narrow(1, 0, kLength).to(at::kLong)));
  const at::Tensor expected = rows.narrow(1, kLength, kLength).to(at::kLong).clone();
  expected.narrow(0, 2, 1).fill_(kernels::kIgnoredTarget);
  EXPECT_TRUE(at::equal(targets, expected));
}

void expect_close(const HeadResult& actual, const HeadResult& expected, double loss_bound, double bound,
                  const HeadCase& c) {
  EXPECT_LE(relative_error(actual.loss, expected.loss, 1.0), loss_bound) << c;
  EXPECT_LE(relative_error(actual.x_Td, expected.x_Td, 1.0), bound) << c;
  EXPECT_LE(relative_error(actual.weight_Vd, expected.weight_Vd, 1.0), bound) << c;
  ASSERT_EQ(actual.bias_V.defined(), c.bias) << c;
  if (c.bias) {
    EXPECT_LE(relative_error(actual.bias_V, expected.bias_V, 1.0), bound) << c;
  }
}

TEST(CrossEntropy, EqualsLossOfFullLogitsInEveryType) {
  SLUICE_NEEDS_GPU();
  std::uint64_t seed = 0;
  for (const std::int64_t vocabulary : {2, 3, 65, 256, 1001, 2052, 5003}) {
    for (const bool bias : {true, false}) {
      const HeadCase c = {
          .rows = 37, .width = 16, .vocabulary = vocabulary, .chunk_rows = 10, .bias = bias, .seed = ++seed};
      const Head head = make_head(c);
      const HeadResult expected = run_reference(head, 0.37);
      expect_close(run_head(head, at::kDouble, kGpu, c.chunk_rows, 0.37), expected, 1e-12, 1e-12, c);
      expect_close(run_head(head, at::kFloat, kGpu, c.chunk_rows, 0.37), expected, 2e-6, 1e-5, c);
      const HeadResult half = run_head(head, at::kBFloat16, kGpu, c.chunk_rows, 0.37);
      EXPECT_EQ(half.loss.scalar_type(), at::kFloat) << c;
      EXPECT_EQ(half.x_Td.scalar_type(), at::kBFloat16) << c;
      expect_close(half, expected, 2e-6, 1.0 / 64, c);
    }
  }
}

TEST(CrossEntropy, HoldsForExtremeLogitsAndIgnoredRows) {
  SLUICE_NEEDS_GPU();
  const HeadCase extreme = {.rows = 50, .width = 8, .vocabulary = 33, .chunk_rows = 7, .scale = 1e4};
  const Head head = make_head(extreme);
  expect_close(run_head(head, at::kFloat, kGpu, 7, 1.0), run_reference(head, 1.0), 2e-6, 1e-5, extreme);
  const HeadResult ignored = run_head(make_head({.rows = 9, .width = 4, .vocabulary = 5, .ignored_share = 2}),
                                      at::kFloat, kGpu, 4, 1.0);
  EXPECT_EQ(ignored.loss.item<float>(), 0.0F);
  EXPECT_EQ(ignored.x_Td.abs().max().item<float>(), 0.0F);
  EXPECT_EQ(ignored.weight_Vd.abs().max().item<float>(), 0.0F);
}

TEST(CrossEntropy, HasTheSameBitsTwice) {
  SLUICE_NEEDS_GPU();
  const Head head = make_head({.rows = 300, .width = 32, .vocabulary = 1001});
  const HeadResult one = run_head(head, at::kBFloat16, kGpu, 128, 0.5);
  const HeadResult two = run_head(head, at::kBFloat16, kGpu, 128, 0.5);
  EXPECT_TRUE(same_bits(one.loss, two.loss));
  EXPECT_TRUE(same_bits(one.x_Td, two.x_Td));
  EXPECT_TRUE(same_bits(one.weight_Vd, two.weight_Vd));
  EXPECT_TRUE(same_bits(one.bias_V, two.bias_V));
}

TEST(CrossEntropy, ATargetOutOfRangeMakesTheLossNan) {
  SLUICE_NEEDS_GPU();
  for (const std::int64_t target : {-1, 7}) {
    Head head = make_head({.rows = 4, .width = 5, .vocabulary = 7, .ignored_share = 0});
    head.targets_T[2] = target;
    EXPECT_TRUE(std::isnan(run_head(head, at::kFloat, kGpu, 0, 1.0).loss.item<float>())) << target;
  }
}

}  // namespace
}  // namespace sluice::tests
