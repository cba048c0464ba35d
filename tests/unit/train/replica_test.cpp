#include "trainer/train/replica.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "tests/unit/train/support.h"

namespace sluice::train {
namespace {

constexpr std::int64_t kVocabulary = 257;

Placement rounding() {
  Placement placement(at::kFloat);
  placement.compute = at::kBFloat16;
  return placement;
}

TEST(Replica, HoldsAnOwnersSlicesInTheirOrderAndRoundsThose) {
  constexpr std::int64_t kRanks = 3;
  const parallel::BucketPlan buckets{.bucket_elements = 300, .world = kRanks};
  const model::ModelOptions options = small_run("", "x").model;
  Replica whole(options, kVocabulary, rounding(), ReplicaUse::kTraining, buckets);
  whole.initialise(5);
  EXPECT_TRUE(whole.whole_parameters().is_same(whole.parameters()));
  EXPECT_TRUE(at::equal(whole.rounded(), whole.parameters().to(at::kBFloat16)));
  std::int64_t held = 0;
  for (std::int64_t rank = 0; rank < kRanks; ++rank) {
    Replica sliced(options, kVocabulary, rounding(), ReplicaUse::kTraining, buckets, model::Recompute::kNone,
                   rank);
    EXPECT_TRUE(sliced.whole_parameters().is_same(sliced.rounded()));
    EXPECT_THROW(sliced.initialise(5), c10::Error);
    std::vector<at::Tensor> slices;
    std::vector<at::Tensor> rounded;
    for (const auto& [begin, end] : sliced.layout().owned(rank)) {
      slices.push_back(whole.parameters().slice(0, begin, end));
      rounded.push_back(sliced.rounded().slice(0, begin, end));
    }
    ASSERT_GT(slices.size(), 1U);
    sliced.parameters().copy_(at::cat(slices));
    sliced.round_parameters();
    EXPECT_TRUE(at::equal(at::cat(rounded), at::cat(slices).to(at::kBFloat16)));
    EXPECT_EQ(sliced.rounded().ne(0).sum().item<std::int64_t>(),
              at::cat(rounded).ne(0).sum().item<std::int64_t>());
    held += sliced.parameters().numel();
  }
  EXPECT_EQ(held, whole.layout().size());
}

/// Two layers with a W of as many elements as make it large.
model::ModelOptions long_model() {
  model::ModelOptions options = small_run("", "x").model;
  options.layers = 2, options.d_model = 8, options.d_ffn = 16, options.seq_len = 1024;
  return options;
}

TEST(Replica, LeavesLargeMatricesToTheirNextBackward) {
  const model::ModelOptions options = long_model();
  ASSERT_GE(options.seq_len * options.seq_len, Replica::kLargeMatrix);
  const at::Tensor tokens = at::arange(options.seq_len).remainder(kVocabulary).view({1, -1});
  const auto gradients = [&](bool clears) {
    Replica replica(options, kVocabulary, rounding(), ReplicaUse::kTraining);
    replica.initialise(5);
    if (clears) {
      replica.gradients().fill_(std::numeric_limits<float>::quiet_NaN());
      replica.clear_gradients();
      std::int64_t left = 0;
      for (std::int64_t layer = 0; layer < options.layers; ++layer) {
        const auto index = replica.layout().find("blocks." + std::to_string(layer) + ".sgu.weight");
        const at::Tensor weight = replica.layout().view(replica.gradients(), index.value());
        EXPECT_TRUE(weight.isnan().all().item<bool>());
        left += weight.numel();
      }
      EXPECT_EQ(replica.gradients().ne(0).sum().item<std::int64_t>(), left);
    }
    for (int backward = 0; backward < 2; ++backward) replica.model().loss_sum(tokens, tokens).backward();
    return replica.gradients();
  };
  EXPECT_TRUE(at::equal(gradients(true), gradients(false)));
}

TEST(Replica, ClearsAllGradientsThatAddUpInPlace) {
  Replica replica(long_model(), kVocabulary, at::kFloat, ReplicaUse::kTraining);
  replica.gradients().fill_(1);
  replica.clear_gradients();
  EXPECT_EQ(replica.gradients().count_nonzero().item<std::int64_t>(), 0);
}

TEST(Replica, ThatRoundsNothingNeedsAllItsParameters) {
  EXPECT_THROW(Replica(small_run("", "x").model, kVocabulary, at::kFloat, ReplicaUse::kTraining,
                       {.bucket_elements = 2000, .world = 2}, model::Recompute::kNone, 0),
               c10::Error);
}

}  // namespace
}  // namespace sluice::train
