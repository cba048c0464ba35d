#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "tests/support/kernel_tensors.h"
#include "trainer/kernels/device_update.h"
#include "trainer/optim/adamw.h"

// The update on a GPU at its edges (kernels_test.cpp has the rest): extreme values, slices, refusals.
namespace sluice::kernels {
namespace {

using tests::gpu;
using tests::normal;
using tests::on_gpu;
using tests::same_bits;

/// A struct of doubles as the device reads it.
template <typename Struct>
at::Tensor doubles_of(const Struct& value) {
  at::Tensor out = at::empty({static_cast<std::int64_t>(sizeof(Struct) / sizeof(double))}, at::kDouble);
  std::memcpy(out.mutable_data_ptr<double>(), static_cast<const void*>(&value), sizeof value);
  return on_gpu(out);
}
at::Tensor zeros_on_gpu(std::int64_t count, at::ScalarType dtype) {
  return at::zeros({count}, at::TensorOptions().dtype(dtype).device(gpu()));
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
              .blocks = {}} {
    const at::Tensor flags = at::zeros({(count + kDecayBlock - 1) / kDecayBlock}, at::kByte);
    for (std::int64_t block = 0; block < flags.numel(); ++block) flags[block].fill_(decays(block) ? 1 : 0);
    slice.blocks = on_gpu(flags);
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
    adamw_update({slice}, doubles_of(optim::update_scalars(options, lr, update)),
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

TEST_F(AdamwKernelTest, LeavesIdleBlocksAlone) {
  Update update(optim::OptimOptions{}, 4 * kDecayBlock);
  const at::Tensor before = update.slice.parameters.clone();
  update.slice.blocks[2].fill_(static_cast<int>(BlockUpdate::kNone));
  update.step(normal({4 * kDecayBlock}, 6), 0.1, 1, 1);
  const auto idle = [](const at::Tensor& flat) { return flat.narrow(0, 2 * kDecayBlock, kDecayBlock); };
  EXPECT_TRUE(same_bits(idle(update.slice.parameters), idle(before)));
  for (const at::Tensor& zeros : {update.slice.first, update.slice.second, update.slice.compute})
    EXPECT_EQ(idle(zeros).count_nonzero().item<std::int64_t>(), 0);
  const auto others = [](const at::Tensor& flat) { return flat.narrow(0, 0, 2 * kDecayBlock); };
  EXPECT_TRUE(same_bits(others(update.slice.parameters), others(update.parameters)));
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

TEST_F(AdamwKernelTest, SlicesHaveTheBitsOfTheWhole) {
  constexpr std::int64_t kSlice = 2'304;  // ends within a block of the grid
  constexpr std::int64_t kSize = 100 * kSlice;
  Update whole(optim::OptimOptions{}, kSize);
  const Update cut(optim::OptimOptions{}, kSize);
  const at::Tensor gradient = normal({kSize}, 8);
  whole.step(gradient, 0.02, 0.5, 1);
  cut.slice.gradients.copy_(gradient);
  const at::Tensor scalars = doubles_of(optim::update_scalars(whole.options, 0.02, 1));
  const at::Tensor decision = doubles_of(Decision{.scale = 0.5, .go = 1});
  std::vector<UpdateSlice> slices;  // more than one launch takes, and none of some
  for (std::int64_t begin = 0; begin < kSize; begin += kSlice) {
    const auto part = [&](const at::Tensor& t) { return t.narrow(0, begin, kSlice); };
    slices.push_back({.parameters = part(cut.slice.parameters),
                      .gradients = part(cut.slice.gradients),
                      .first = part(cut.slice.first),
                      .second = part(cut.slice.second),
                      .compute = {},
                      .blocks = cut.slice.blocks.narrow(0, begin / kDecayBlock, kSlice / kDecayBlock)});
    const UpdateSlice& last = slices.back();
    const auto none = [](const at::Tensor& t) { return t.narrow(0, 0, 0); };
    slices.push_back({.parameters = none(last.parameters),
                      .gradients = none(last.gradients),
                      .first = none(last.first),
                      .second = none(last.second),
                      .compute = {},
                      .blocks = none(last.blocks)});
  }
  adamw_update(slices, scalars, decision);
  adamw_update({}, scalars, decision);
  EXPECT_TRUE(same_bits(cut.slice.parameters, whole.slice.parameters));
  EXPECT_TRUE(same_bits(cut.slice.second, whole.slice.second));
  EXPECT_EQ(cut.slice.compute.count_nonzero().item<std::int64_t>(), 0);
}

/// Of what is computed with: of the rounded parameters, or where none are of the parameters themselves.
TEST_F(AdamwKernelTest, WritesACopy) {
  constexpr std::int64_t kSize = 1'029;  // the last ones one by one
  for (const bool rounds : {true, false}) {
    SCOPED_TRACE(rounds ? "bfloat16" : "float32");
    Update update(optim::OptimOptions{}, kSize);
    if (!rounds) update.slice.compute = at::Tensor();
    update.slice.copy = zeros_on_gpu(kSize, rounds ? at::kBFloat16 : at::kFloat);
    update.step(normal({kSize}, 9), 0.02, 0.5, 1);
    EXPECT_TRUE(same_bits(update.slice.copy, rounds ? update.slice.compute : update.slice.parameters));
    EXPECT_TRUE(same_bits(update.slice.parameters, update.parameters));
  }
}

TEST_F(AdamwKernelTest, RefusesWhatDoesNotFit) {
  const at::Tensor scalars = zeros_on_gpu(kUpdateScalars, at::kDouble);
  const at::Tensor decision = zeros_on_gpu(kDecision, at::kDouble);
  const Update update(optim::OptimOptions{}, 128);
  const auto with = [&](auto change) {
    UpdateSlice slice = update.slice;
    change(slice);
    EXPECT_THROW(adamw_update({slice}, scalars, decision), c10::Error);
  };
  with([](UpdateSlice& s) { s.gradients = s.gradients.narrow(0, 0, 64); });
  with([](UpdateSlice& s) { s.first = zeros_on_gpu(129, at::kFloat).narrow(0, 1, 128); });  // not aligned
  with([](UpdateSlice& s) { s.second = s.second.to(at::kDouble); });
  with([](UpdateSlice& s) { s.parameters = s.parameters.cpu(); });
  with([](UpdateSlice& s) { s.compute = s.compute.to(at::kFloat); });
  with([](UpdateSlice& s) { s.blocks = s.blocks.narrow(0, 0, 3); });
  with([](UpdateSlice& s) { s.copy = zeros_on_gpu(128, at::kFloat); });  // of bfloat16
}

}  // namespace
}  // namespace sluice::kernels
