#include <ATen/ops/equal.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <mutex>

#include "parallel/bucket_gather.h"
#include "parallel/gradient_reducer.h"
#include "parallel/mesh.h"
#include "parallel/replica_check.h"
#include "parallel/thread_communicator.h"

// Tensors of which each rank of a row holds another part.

namespace sluice::parallel {
namespace {

constexpr std::int64_t kRoom = 900;

/// Ranks at another place have another number of rows of "rows.1" and "rows.2".
ArenaLayout layout_of(std::int64_t bucket_elements, std::int64_t world, std::int64_t sequence_ranks,
                      std::int64_t place) {
  const TensorSpec rows{
      .name = "rows.1", .shape = {20 + place, 30}, .holders = Holders::kSamePlace, .room = kRoom};
  TensorSpec more = rows;
  more.name = "rows.2";
  return ArenaLayout({{"a", {700}}, {"b", {40, 3}}, rows, more, {"c", {64}}, {"d", {1}}},
                     {.bucket_elements = bucket_elements, .world = world, .sequence_ranks = sequence_ranks});
}

struct Shape {
  std::int64_t sequence_ranks;
  std::int64_t data_ranks;
  std::int64_t bucket_elements;

  [[nodiscard]] std::int64_t world() const { return sequence_ranks * data_ranks; }
  [[nodiscard]] ArenaLayout layout(std::int64_t rank) const {
    return layout_of(bucket_elements, world(), sequence_ranks, rank % sequence_ranks);
  }
};

Shape random_shape() {
  return {.sequence_ranks = *rc::gen::inRange<std::int64_t>(1, 5),
          .data_ranks = *rc::gen::inRange<std::int64_t>(1, 4),
          .bucket_elements = *rc::gen::inRange<std::int64_t>(1, 3000)};
}

/// Every rank's own values: of each element its bucket, its place in it and the rank.
at::Tensor values_of(const ArenaLayout& layout, std::int64_t rank) {
  const at::Tensor flat = layout.allocate(at::kDouble, at::kCPU);
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(layout.entries().size()); ++i)
    layout.view(flat, i).fill_(static_cast<double>((i + 1) * (rank + 1)));
  return flat;
}

/// What the sum of values_of() is at rank `rank`.
at::Tensor sum_for(const Shape& shape, std::int64_t rank) {
  const ArenaLayout layout = shape.layout(rank);
  const at::Tensor flat = layout.allocate(at::kDouble, at::kCPU);
  for (const Bucket& bucket : layout.buckets()) {
    double factor = 0;
    for (std::int64_t other = 0; other < shape.world(); ++other)
      if (bucket.holders == Holders::kAllRanks || other % shape.sequence_ranks == rank % shape.sequence_ranks)
        factor += static_cast<double>(other + 1);
    for (std::int64_t i = bucket.first_entry; i < bucket.last_entry; ++i)
      layout.view(flat, i).fill_(static_cast<double>(i + 1) * factor);
  }
  return flat;
}

RC_GTEST_PROP(PlaceBuckets, StandAtTheSameOffsetsOnAllRanksAndMixNoHolders, ()) {
  const Shape shape = random_shape();
  const ArenaLayout first = shape.layout(0);
  for (std::int64_t rank = 0; rank < shape.world(); ++rank) {
    const ArenaLayout layout = shape.layout(rank);
    RC_ASSERT(layout.differs_by_place());
    RC_ASSERT(layout.size() == first.size());
    RC_ASSERT(layout.buckets().size() == first.buckets().size());
    for (std::size_t i = 0; i < layout.entries().size(); ++i)
      RC_ASSERT(layout.entries()[i].offset == first.entries()[i].offset);
    for (std::size_t index = 0; index < layout.buckets().size(); ++index) {
      const Bucket& bucket = layout.buckets()[index];
      RC_ASSERT(bucket.begin == first.buckets()[index].begin);
      for (std::int64_t entry = bucket.first_entry; entry < bucket.last_entry; ++entry)
        RC_ASSERT((entry == 2 || entry == 3) == (bucket.holders == Holders::kSamePlace));
      RC_ASSERT(bucket.numel() % (layout.count(bucket.holders) * ArenaLayout::kSliceAlignment) == 0);
    }
  }
}

RC_GTEST_PROP(PlaceBuckets, EveryElementIsInOneSliceOfTheRanksThatHoldIt, ()) {
  const Shape shape = random_shape();
  for (std::int64_t place = 0; place < shape.sequence_ranks; ++place) {
    const ArenaLayout layout = shape.layout(place);
    std::vector<int> owners(static_cast<std::size_t>(layout.size()));
    for (std::int64_t rank = 0; rank < shape.world(); ++rank) {
      for (std::size_t index = 0; index < layout.buckets().size(); ++index) {
        const bool mine =
            layout.buckets()[index].holders == Holders::kAllRanks || rank % shape.sequence_ranks == place;
        const Range range = layout.slice(static_cast<std::int64_t>(index), rank);
        for (std::int64_t at = range.begin; mine && at < range.end; ++at)
          ++owners[static_cast<std::size_t>(at)];
      }
    }
    RC_ASSERT(std::ranges::all_of(owners, [](int count) { return count == 1; }));
  }
}

RC_GTEST_PROP(PlaceBuckets, AreSummedOverTheRanksThatHoldThem, ()) {
  const Shape shape = random_shape();
  const auto progress = *rc::gen::element(ReducerProgress::kCaller, ReducerProgress::kThread);
  std::mutex mutex;
  std::int64_t right = 0;
  run_thread_ranks(shape.world(), [&](Communicator& world) {
    const Mesh mesh(world, shape.sequence_ranks);
    const BucketGroups groups(world, mesh.data());
    const ArenaLayout layout = shape.layout(world.rank());
    const auto reduced = [&](ReduceMode mode, LastBucket last = LastBucket::kWhole) {
      const at::Tensor flat = values_of(layout, world.rank());
      GradientReducer reducer(layout, flat, groups, {.mode = mode, .last = last, .progress = progress});
      reducer.start();
      for (auto entry = static_cast<std::int64_t>(layout.entries().size()); entry-- > 0;)
        reducer.mark_ready(entry);
      (void)reducer.finish();
      return flat;
    };
    const at::Tensor want = sum_for(shape, world.rank());
    const at::Tensor everywhere = reduced(ReduceMode::kAllReduce);
    const at::Tensor scattered = reduced(ReduceMode::kReduceScatter);
    const at::Tensor again = scattered.clone();
    BucketGather gather(layout, scattered, groups);
    gather.start();
    gather.finish();
    BucketGather apart(layout, again, groups);
    for (const Holders holders : {Holders::kAllRanks, Holders::kSamePlace}) {
      apart.start(holders);
      apart.finish();
    }
    const at::Tensor in_halves = reduced(ReduceMode::kAllReduce, LastBucket::kInHalves);
    const std::lock_guard lock(mutex);
    right += at::equal(everywhere, want) && at::equal(scattered, want) && at::equal(again, want) &&
             at::equal(in_halves, want);
  });
  RC_ASSERT(right == shape.world());
}

TEST(PlaceBuckets, RefuseRanksOfAnotherMesh) {
  EXPECT_THROW(layout_of(10, 4, 3, 0), std::invalid_argument);
  run_thread_ranks(2, [](Communicator& world) {
    const ArenaLayout layout = layout_of(10, 2, 2, world.rank());
    EXPECT_THROW(GradientReducer(layout, layout.allocate(at::kFloat, at::kCPU), world), c10::Error)
        << "a row is not a group of one place";
  });
}

TEST(PlaceBuckets, MeshGroupsThoseOfOnePlace) {
  run_thread_ranks(6, [](Communicator& world) {
    const Mesh mesh(world, 3);
    EXPECT_EQ(mesh.place(), world.rank() % 3);
    EXPECT_EQ(mesh.data().size(), 2);
    EXPECT_EQ(mesh.data().rank(), mesh.data_rank());
    EXPECT_EQ(mesh.sequence().rank(), mesh.place());
  });
}

TEST(PlaceBuckets, ReplicasAreComparedWithThoseOfTheirPlace) {
  run_thread_ranks(4, [](Communicator& world) {
    const ArenaLayout layout = layout_of(10, 4, 2, world.rank() % 2);
    const at::Tensor flat = layout.allocate(at::kFloat, at::kCPU);
    layout.view(flat, 2).fill_(static_cast<double>(world.rank() % 2));
    EXPECT_NO_THROW(check_replicas(world, layout, flat, "parts"));
    if (world.rank() == 3) layout.view(flat, 3).fill_(1);
    try {
      check_replicas(world, layout, flat, "parts");
      ADD_FAILURE() << "rank 3 differs from rank 1";
    } catch (const ReplicaDrift& drift) {
      EXPECT_EQ(drift.ranks(), std::vector<std::int64_t>{3});
    }
  });
}

}  // namespace
}  // namespace sluice::parallel
