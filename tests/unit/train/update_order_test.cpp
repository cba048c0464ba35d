#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/unit/train/support.h"
#include "trainer/train/micro_input.h"
#include "trainer/train/update_slices.h"

namespace sluice::train {
namespace {

constexpr std::int64_t kVocabulary = 257;

/// How often each element of the arena is updated by the slices.
at::Tensor updates_of(const Replica& replica, const std::vector<kernels::UpdateSlice>& slices) {
  const at::Tensor times = at::zeros({replica.layout().size()}, at::kInt);
  for (const kernels::UpdateSlice& slice : slices)
    times.narrow(0, slice.gradients.storage_offset(), slice.gradients.numel()).add_(1);
  return times;
}

struct Counted {
  at::Tensor first, most, last;
  std::size_t slices;
};
Counted count(const Replica& replica, const UpdateParts& parts) {
  const optim::AdamW optimizer({}, replica.parameters(), replica.decayed_ranges());
  const UpdateOrder order = order_updates(replica, optimizer, block_updates(replica), parts);
  return {updates_of(replica, order.first), updates_of(replica, order.most), updates_of(replica, order.last),
          order.first.size() + order.most.size() + order.last.size()};
}

TEST(UpdateOrder, UpdatesEachElementOnceAndTheAwaitedBucketLast) {
  const Replica replica(small_run("", "x").model, kVocabulary, at::kFloat, ReplicaUse::kTraining,
                        {.bucket_elements = 300, .world = 3});
  ASSERT_GT(replica.layout().buckets().size(), 2U);
  const at::Tensor once = at::zeros({replica.layout().size()}, at::kInt).fill_(1);
  const auto expect_parts = [&](const Counted& parts, const at::Tensor& first, const at::Tensor& last) {
    EXPECT_TRUE(at::equal(parts.first, first));
    EXPECT_TRUE(at::equal(parts.last, last));
    EXPECT_TRUE(at::equal(parts.first.add(parts.most).add(parts.last), once));
  };
  const at::Tensor none = at::zeros_like(once);
  const Counted whole = count(replica, {});
  expect_parts(whole, none, none);
  EXPECT_EQ(whole.slices, 1U) << "neighbours are one slice";

  const parallel::Bucket& bucket = replica.layout().buckets().back();
  const at::Tensor last = none.clone();
  last.narrow(0, bucket.begin, bucket.numel()).fill_(1);
  const Counted awaited = count(replica, {.awaits_last = true});
  expect_parts(awaited, none, last);
  EXPECT_EQ(awaited.slices, bucket.begin == 0 ? 2U : 3U);
  const at::Tensor used_first = none.clone();
  used_first.narrow(0, 0, replica.layout().buckets()[replica.layout().in_order_of_use().front()].end)
      .fill_(1);
  expect_parts(count(replica, {.early = GatheredEarly::kUsedFirst}), used_first, none);
  expect_parts(count(replica, {.early = GatheredEarly::kHeldByAll}), once, none);  // all ranks hold all of it
}

TEST(MicroInput, HoldsWhatItWasFilledWith) {
  const std::vector<std::int32_t> tokens = {3, 1, 4, 1, 5, 9};
  dataio::Batch batch;
  batch.tokens = tokens;
  batch.samples = {.first = 1234567890123, .count = 2};
  batch.rows = 2;
  const MicroInput input(at::kCPU, 2, 3);
  input.fill({.step_size = 0.25, .clip = 3}, {.wishes = 1}, batch);
  const MicroInput other(at::kCPU, 2, 3);
  other.bytes.copy_(input.bytes);  // as a device has it
  EXPECT_EQ(other.scalars[0].item<double>(), 0.25);
  EXPECT_EQ(other.scalars[kernels::kUpdateScalars - 1].item<double>(), 3);
  EXPECT_EQ(other.start[2].item<double>(), 1);
  EXPECT_EQ(other.first_sample.item<std::int64_t>(), 1234567890123);
  EXPECT_EQ(other.rows.item<std::int32_t>(), 2);
  EXPECT_EQ(other.windows.sizes(), (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(other.windows[1][2].item<std::int32_t>(), 9);
  EXPECT_THROW(MicroInput(at::kCPU, 2, 4).fill({}, {}, batch), c10::Error);
}

}  // namespace
}  // namespace sluice::train
