#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tests/gpu/kernel_tensors.h"
#include "trainer/kernels/cross_entropy.h"
#include "trainer/kernels/device_update.h"
#include "trainer/optim/adamw.h"

// The kernels of an update on a GPU against sums in double and optim::AdamW on the CPU.
namespace sluice::kernels {
namespace {

using tests::gpu;
using tests::normal;
using tests::on_gpu;
using tests::same_bits;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// A struct of doubles as the device reads it, and back.
template <typename Struct>
at::Tensor doubles_of(const Struct& value) {
  at::Tensor out = at::empty({static_cast<std::int64_t>(sizeof(Struct) / sizeof(double))}, at::kDouble);
  std::memcpy(out.mutable_data_ptr<double>(), static_cast<const void*>(&value), sizeof value);
  return on_gpu(out);
}
Decision read(const at::Tensor& decision_f64) {
  const at::Tensor host = decision_f64.cpu();
  Decision decision;
  std::memcpy(static_cast<void*>(&decision), host.const_data_ptr<double>(), sizeof decision);
  return decision;
}
at::Tensor zeros_on_gpu(std::int64_t count, at::ScalarType dtype) {
  return at::zeros({count}, at::TensorOptions().dtype(dtype).device(gpu()));
}

class SliceSumsTest : public tests::KernelsTest {
 protected:
  static double expected(const at::Tensor& flat, const Slice& slice) {
    long double sum = 0;
    for (std::int64_t i = slice.begin; i < slice.end; ++i) {
      const auto value = static_cast<long double>(flat.const_data_ptr<float>()[i]);
      sum += value * value;
    }
    return static_cast<double>(sum);
  }
  static at::Tensor run(const at::Tensor& flat, const std::vector<Slice>& slices, std::int64_t sums) {
    const at::Tensor result = zeros_on_gpu(sums, at::kDouble).fill_(-7);
    SliceSums(slices, gpu()).run(on_gpu(flat), result);
    return result.cpu();
  }
};

TEST_F(SliceSumsTest, AreSumsOfSquaresInDouble) {
  const at::Tensor flat = normal({60'003}, 1);
  // Around the fixed blocks of 8192 elements; empty; overlapping; up to an odd end.
  const std::vector<Slice> slices = {{0, 1, 2},         {4, 7, 0},          {8, 8, 5},
                                     {8, 8 + 8191, 1},  {12, 12 + 8192, 6}, {16, 16 + 8193, 3},
                                     {1024, 60'003, 7}, {0, 60'003, 9}};
  const at::Tensor sums = run(flat, slices, 11);
  for (const Slice& slice : slices) {
    const double want = expected(flat, slice);
    EXPECT_NEAR(sums[slice.index].item<double>(), want, 1e-13 * want) << slice.begin << " " << slice.end;
  }
  for (const std::int64_t untouched : {4, 8, 10}) EXPECT_EQ(sums[untouched].item<double>(), -7);
  EXPECT_TRUE(same_bits(run(flat, slices, 11), sums));
}

TEST_F(SliceSumsTest, DependOnNothingButTheirElements) {
  const at::Tensor piece = normal({20'001}, 2);
  const at::Tensor flat = at::cat({normal({5'000}, 3), piece});
  const double here = run(flat, {{5'000, 25'001, 0}}, 1).item<double>();
  EXPECT_EQ(run(piece, {{0, 4, 0}, {0, 20'001, 1}}, 2)[1].item<double>(), here);
}

TEST_F(SliceSumsTest, HoldExtremeValuesAndPassOnWhatIsNotFinite) {
  const at::Tensor flat = at::zeros({9'000});
  flat[3].fill_(1e30F);
  flat[8'990].fill_(std::numeric_limits<float>::denorm_min());
  flat[5'000].fill_(kNan);
  const at::Tensor sums = run(flat, {{0, 4'096, 0}, {8'192, 9'000, 1}, {4'096, 8'192, 2}}, 3);
  EXPECT_DOUBLE_EQ(sums[0].item<double>(), static_cast<double>(1e30F) * static_cast<double>(1e30F));
  const auto least = static_cast<double>(std::numeric_limits<float>::denorm_min());
  EXPECT_DOUBLE_EQ(sums[1].item<double>(), least * least);
  EXPECT_TRUE(std::isnan(sums[2].item<double>()));
}

TEST_F(SliceSumsTest, RefuseWhatDoesNotFit) {
  EXPECT_THROW(SliceSums({{2, 8, 0}}, gpu()), c10::Error);
  EXPECT_THROW(SliceSums({{8, 4, 0}}, gpu()), c10::Error);
  const SliceSums sums({{0, 64, 1}}, gpu());
  const at::Tensor flat = zeros_on_gpu(65, at::kFloat);
  const at::Tensor result = zeros_on_gpu(2, at::kDouble);
  EXPECT_THROW(sums.run(flat.narrow(0, 1, 64), result), c10::Error);  // not aligned
  EXPECT_THROW(sums.run(flat.narrow(0, 0, 60), result), c10::Error);
  EXPECT_THROW(sums.run(flat, result.narrow(0, 0, 1)), c10::Error);
  EXPECT_THROW(sums.run(flat.cpu(), result), c10::Error);
}

class DecideTest : public tests::KernelsTest {
 protected:
  static Decision decide(const at::Tensor& sums, const Agreed& agreed, double clip) {
    const at::Tensor decision = zeros_on_gpu(kDecision, at::kDouble);
    decide_update(on_gpu(sums), doubles_of(agreed), doubles_of(UpdateScalars{.clip = clip}), decision);
    return read(decision);
  }
};

TEST_F(DecideTest, FindsNormAndClippingFactor) {
  for (const std::int64_t count : {1, 2, 255, 256, 257, 3'001}) {
    const at::Tensor sums = normal({count}, 4, at::kDouble).abs();
    const double norm = std::sqrt(sums.sum().item<double>());
    for (const double clip : {0.0, 0.5 * norm, 2 * norm}) {
      const Decision got = decide(sums, {.loss_sum = 2.5, .faults = 0, .wishes = 3}, clip);
      EXPECT_NEAR(got.norm, norm, 1e-14 * norm) << count;
      EXPECT_EQ(got.scale, optim::clip_scale(got.norm, clip)) << count;
      EXPECT_EQ(got.loss_sum, 2.5);
      EXPECT_EQ(got.wishes, 3);
      EXPECT_EQ(got.go, 1);
    }
  }
}

TEST_F(DecideTest, StopsAnUpdateThatIsNotFiniteOrThatARankObjectsTo) {
  const at::Tensor fine = at::full({3}, 4.0, at::kDouble);
  const at::Tensor bad = fine.clone();
  bad[1].fill_(kNan);
  EXPECT_EQ(decide(fine, {}, 1).go, 1);
  EXPECT_EQ(decide(bad, {}, 1).go, 0);
  EXPECT_EQ(decide(bad.fill_(kInfinity), {}, 1).go, 0);
  EXPECT_EQ(decide(fine, {.loss_sum = kNan}, 1).go, 0);
  EXPECT_EQ(decide(fine, {.loss_sum = -kInfinity}, 1).go, 0);
  EXPECT_EQ(decide(fine, {.faults = 1}, 1).go, 0);
  EXPECT_EQ(decide(fine, {.faults = 1}, 1).faults, 1);
}

/// The flat buffers of one update, on the GPU, and the CPU's optimizer beside them.
struct Update {
  Update(const optim::OptimOptions& optim_options, std::int64_t count)
      : options(optim_options),
        parameters(normal({count}, 5)),
        cpu(options, parameters, ranges(count)),
        slice{.parameters = on_gpu(parameters),
              .gradients = zeros_on_gpu(count, at::kFloat),
              .first = zeros_on_gpu(count, at::kFloat),
              .second = zeros_on_gpu(count, at::kFloat),
              .compute = zeros_on_gpu(count, at::kBFloat16),
              .decay_flags = {}} {
    const at::Tensor flags = at::zeros({(count + kDecayBlock - 1) / kDecayBlock}, at::kByte);
    for (std::int64_t block = 0; block < flags.numel(); ++block) flags[block].fill_(decays(block) ? 1 : 0);
    slice.decay_flags = on_gpu(flags);
  }
  static bool decays(std::int64_t block) { return block % 3 != 1; }
  static std::vector<optim::DecayRange> ranges(std::int64_t count) {
    std::vector<optim::DecayRange> result;
    for (std::int64_t begin = 0; begin < count; begin += kDecayBlock)
      if (decays(begin / kDecayBlock)) result.push_back({begin, std::min(count, begin + kDecayBlock)});
    return result;
  }
  /// Both, with this gradient, clipped by `scale`.
  void step(const at::Tensor& gradient, double lr, double scale, std::int64_t update) {
    cpu.step(gradient, lr, scale, update);
    slice.gradients.copy_(gradient);
    adamw_update(slice, doubles_of(optim::update_scalars(options, lr, update)),
                 doubles_of(Decision{.scale = scale, .go = 1}));
  }
  void expect_equal(const std::string& what) const {
    EXPECT_TRUE(same_bits(slice.parameters, parameters)) << what;
    EXPECT_TRUE(same_bits(slice.first, cpu.first_moment())) << what;
    EXPECT_TRUE(same_bits(slice.second, cpu.second_moment())) << what;
    EXPECT_TRUE(same_bits(slice.compute, parameters.to(at::kBFloat16))) << what;
  }

  optim::OptimOptions options;
  at::Tensor parameters;
  optim::AdamW cpu;
  UpdateSlice slice;
};

class AdamwKernelTest : public tests::KernelsTest {};

TEST_F(AdamwKernelTest, HasTheBitsOfTheCpusUpdate) {
  for (const std::string kind : {"adamw", "adam"}) {
    for (const std::int64_t count : {1, 7, 8, 31, 33, 2'047, 2'049, 10'007}) {
      optim::OptimOptions options;
      options.kind = kind;
      options.weight_decay = 0.3;
      Update update(options, count);
      for (int step = 1; step <= 3; ++step)
        update.step(normal({count}, 10 + static_cast<std::uint64_t>(step)), 0.01, 0.37, step);
      update.expect_equal(kind + " of " + std::to_string(count));
    }
  }
}

TEST_F(AdamwKernelTest, HasTheBitsOfTheCpusUpdateForExtremeGradients) {
  Update update(optim::OptimOptions{}, 96);
  const at::Tensor gradient = at::zeros({96});
  const std::vector<float> values = {1e30F, -1e30F, 1e-30F, 1e-42F, -0.0F, 3e-23F, 1e19F};
  for (std::size_t i = 0; i < values.size(); ++i)
    gradient.narrow(0, static_cast<std::int64_t>(i) * 13, 13).fill_(values[i]);
  for (int step = 1; step <= 2; ++step) update.step(gradient, 0.01, 1.0, step);
  update.expect_equal("extreme");
}

TEST_F(AdamwKernelTest, WritesNothingIfTheDecisionIsNoGo) {
  Update update(optim::OptimOptions{}, 2'049);
  update.step(normal({2'049}, 6), 0.01, 1.0, 1);
  const UpdateSlice before = {.parameters = update.slice.parameters.clone(),
                              .gradients = {},
                              .first = update.slice.first.clone(),
                              .second = update.slice.second.clone(),
                              .compute = update.slice.compute.clone(),
                              .decay_flags = {}};
  update.slice.gradients.fill_(kNan);
  const at::Tensor sums = zeros_on_gpu(1, at::kDouble);
  SliceSums({{0, 2'049, 0}}, gpu()).run(update.slice.gradients, sums);
  const at::Tensor scalars = doubles_of(optim::update_scalars(update.options, 0.01, 2));
  const at::Tensor decision = zeros_on_gpu(kDecision, at::kDouble);
  decide_update(sums, doubles_of(Agreed{}), scalars, decision);
  adamw_update(update.slice, scalars, decision);
  EXPECT_TRUE(same_bits(update.slice.parameters, before.parameters));
  EXPECT_TRUE(same_bits(update.slice.first, before.first));
  EXPECT_TRUE(same_bits(update.slice.second, before.second));
  EXPECT_TRUE(same_bits(update.slice.compute, before.compute));
}

TEST_F(AdamwKernelTest, SlicesHaveTheBitsOfTheWhole) {
  constexpr std::int64_t kSize = 4'096;
  Update whole(optim::OptimOptions{}, kSize);
  const Update cut(optim::OptimOptions{}, kSize);
  const at::Tensor gradient = normal({kSize}, 8);
  whole.step(gradient, 0.02, 0.5, 1);
  cut.slice.gradients.copy_(gradient);
  const at::Tensor scalars = doubles_of(optim::update_scalars(whole.options, 0.02, 1));
  const at::Tensor decision = doubles_of(Decision{.scale = 0.5, .go = 1});
  for (std::int64_t begin = 0; begin < kSize; begin += 1'024) {
    const auto part = [&](const at::Tensor& t) { return t.narrow(0, begin, 1'024); };
    adamw_update({.parameters = part(cut.slice.parameters),
                  .gradients = part(cut.slice.gradients),
                  .first = part(cut.slice.first),
                  .second = part(cut.slice.second),
                  .compute = {},
                  .decay_flags = cut.slice.decay_flags.narrow(0, begin / kDecayBlock, 1'024 / kDecayBlock)},
                 scalars, decision);
  }
  EXPECT_TRUE(same_bits(cut.slice.parameters, whole.slice.parameters));
  EXPECT_TRUE(same_bits(cut.slice.second, whole.slice.second));
  EXPECT_EQ(cut.slice.compute.count_nonzero().item<std::int64_t>(), 0);
}

TEST_F(AdamwKernelTest, RefusesWhatDoesNotFit) {
  const at::Tensor scalars = zeros_on_gpu(kUpdateScalars, at::kDouble);
  const at::Tensor decision = zeros_on_gpu(kDecision, at::kDouble);
  const Update update(optim::OptimOptions{}, 128);
  const auto with = [&](auto change) {
    UpdateSlice slice = update.slice;
    change(slice);
    EXPECT_THROW(adamw_update(slice, scalars, decision), c10::Error);
  };
  with([](UpdateSlice& s) { s.gradients = s.gradients.narrow(0, 0, 64); });
  with([](UpdateSlice& s) { s.first = zeros_on_gpu(129, at::kFloat).narrow(0, 1, 128); });  // not aligned
  with([](UpdateSlice& s) { s.second = s.second.to(at::kDouble); });
  with([](UpdateSlice& s) { s.parameters = s.parameters.cpu(); });
  with([](UpdateSlice& s) { s.compute = s.compute.to(at::kFloat); });
  with([](UpdateSlice& s) { s.decay_flags = s.decay_flags.narrow(0, 0, 3); });
}

class AccumulateTest : public tests::KernelsTest {};

TEST_F(AccumulateTest, AddsOrWritesManyTensorsOfAnySizeAndStride) {
  for (const Accumulate mode : {Accumulate::kAdd, Accumulate::kWrite}) {
    std::vector<at::Tensor> into, gradients, expected;
    for (std::int64_t i = 0; i < 200; ++i) {  // more than one launch takes
      const std::int64_t count = 1 + i * 131 % 9'001;
      const std::int64_t shift = i % 3;  // also not aligned
      const at::Tensor start = normal({count}, 20 + static_cast<std::uint64_t>(i));
      if (mode == Accumulate::kWrite) start[0].fill_(kNan);
      const at::Tensor gradient = normal({count}, 300 + static_cast<std::uint64_t>(i), at::kBFloat16);
      into.push_back(zeros_on_gpu(count + shift, at::kFloat).narrow(0, shift, count).copy_(start));
      gradients.push_back(zeros_on_gpu(count + shift, at::kBFloat16).narrow(0, shift, count).copy_(gradient));
      const at::Tensor wide = gradient.to(at::kFloat);
      expected.push_back(mode == Accumulate::kAdd ? start.add(wide) : wide);
    }
    const at::Tensor turned = normal({33, 65}, 7, at::kBFloat16);
    into.push_back(zeros_on_gpu(33 * 65, at::kFloat).view({65, 33}));
    gradients.push_back(on_gpu(turned).t());
    expected.push_back(turned.t().to(at::kFloat));
    kernels::accumulate(into, gradients, mode);
    for (std::size_t i = 0; i < into.size(); ++i)
      ASSERT_TRUE(same_bits(into[i], expected[i])) << "tensor " << i << " of " << into[i].numel();
  }
}

TEST_F(AccumulateTest, RefusesWhatDoesNotFit) {
  const at::Tensor into = zeros_on_gpu(8, at::kFloat);
  const at::Tensor gradient = zeros_on_gpu(8, at::kBFloat16);
  const at::Tensor cut = gradient.narrow(0, 0, 7);
  EXPECT_THROW(kernels::accumulate({into}, {}, Accumulate::kAdd), c10::Error);
  EXPECT_THROW(kernels::accumulate({into}, {cut}, Accumulate::kAdd), c10::Error);
  EXPECT_THROW(kernels::accumulate({into}, {into}, Accumulate::kAdd), c10::Error);
  EXPECT_THROW(kernels::accumulate({gradient}, {gradient}, Accumulate::kAdd), c10::Error);
}

class SplitWindowsTest : public tests::KernelsTest {};

TEST_F(SplitWindowsTest, GivesTokensAndTheirSuccessorsAndIgnoresPaddedRows) {
  for (const auto& [batch, length] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {5, 33}, {3, 256}}) {
    for (const std::int64_t rows : {std::int64_t{0}, batch - 1, batch}) {
      const at::Tensor windows = normal({batch, length + 1}, 9).mul(1e4).to(at::kInt);
      const at::Tensor tokens = zeros_on_gpu(batch * length, at::kLong).view({batch, length});
      const at::Tensor targets = zeros_on_gpu(batch * length, at::kLong).view({batch, length});
      split_windows(on_gpu(windows), on_gpu(at::full({1}, rows, at::kInt)), tokens, targets);
      const at::Tensor want = windows.narrow(1, 1, length).to(at::kLong);
      want.narrow(0, rows, batch - rows).fill_(kIgnoredTarget);
      EXPECT_TRUE(same_bits(tokens, windows.narrow(1, 0, length).to(at::kLong))) << batch << " " << rows;
      EXPECT_TRUE(same_bits(targets, want)) << batch << " " << rows;
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
