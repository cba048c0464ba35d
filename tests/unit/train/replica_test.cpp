#include "trainer/train/replica.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

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

TEST(Replica, ThatRoundsNothingNeedsAllItsParameters) {
  EXPECT_THROW(Replica(small_run("", "x").model, kVocabulary, at::kFloat, ReplicaUse::kTraining,
                       {.bucket_elements = 2000, .world = 2}, model::Recompute::kNone, 0),
               c10::Error);
}

}  // namespace
}  // namespace sluice::train
