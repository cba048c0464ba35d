#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <mutex>
#include <string>
#include <vector>

#include "parallel/bucket_gather.h"
#include "parallel/gradient_reducer.h"
#include "parallel/thread_communicator.h"

// Ranks that write to one another's exchange buffers, or exchange through memory of their host.
namespace sluice::parallel {
namespace {

at::Tensor buffer_of(Communicator& ranks, std::int64_t elements) {
  return ranks.exchange_buffer(elements, at::kFloat, at::kCPU);
}

TEST(PeerMemory, WhatRanksWroteIsThereAfterAMeeting) {
  const auto body = [](Communicator& ranks) {
    ASSERT_TRUE(ranks.has_peer_memory());
    const at::Tensor other = buffer_of(ranks, 7), inbox = buffer_of(ranks, 20).narrow(0, 5, 12);
    for (std::int64_t round = 0; round < 3; ++round) {
      const auto value = [&](std::int64_t rank) { return static_cast<double>(10 * round + rank); };
      for (const at::Tensor& view : ranks.peer_views(inbox.narrow(0, 4 * ranks.rank(), 4)))
        view.fill_(value(ranks.rank()));
      ranks.meet_async().wait();
      for (std::int64_t rank = 0; rank < ranks.size(); ++rank) {
        const double expected = rank == ranks.rank() ? 0 : value(rank);
        EXPECT_TRUE(inbox.narrow(0, 4 * rank, 4).eq(expected).all().item<bool>()) << "from rank " << rank;
      }
      ranks.meet_async().wait();  // all have read
    }
    EXPECT_TRUE(other.eq(0).all().item<bool>());
  };
  run_thread_ranks(3, body, Reach::kPeerMemory);
}

TEST(PeerMemory, IsOfExchangeBuffersAndGroupsThatHaveIt) {
  run_thread_ranks(
      2,
      [](Communicator& ranks) {
        EXPECT_THROW((void)ranks.peer_views(at::zeros({4})), c10::Error);
        const auto row = ranks.split(0);
        EXPECT_EQ(row->peer_views(buffer_of(*row, 4)).size(), 1U);
      },
      Reach::kPeerMemory);
  run_thread_ranks(2, [](Communicator& ranks) {
    EXPECT_FALSE(ranks.has_peer_memory());
    EXPECT_THROW((void)ranks.peer_views(buffer_of(ranks, 4)), c10::Error);
    EXPECT_THROW((void)ranks.meet_async(), c10::Error);
  });
  EXPECT_FALSE(make_local_communicator()->has_peer_memory());
}

TEST(HostMemory, WhatIsDealtArrivesInItsPlaces) {
  const auto body = [](Communicator& ranks) {
    ASSERT_TRUE(ranks.has_host_memory());
    const at::Tensor sent = at::arange(6, at::kFloat).add(static_cast<double>(10 * ranks.rank()));
    const at::Tensor box = at::zeros({20});
    std::vector<at::Tensor> places;
    for (std::int64_t from = 0; from < 3; ++from)
      places.push_back(from == ranks.rank() ? at::Tensor() : box.narrow(0, 7 * from, 2));
    ranks.deal_async(sent, places).wait();
    for (std::int64_t from = 0; from < 3; ++from) {
      const auto first = static_cast<double>(10 * from + 2 * ranks.rank());
      const at::Tensor want =
          from == ranks.rank() ? at::zeros({2}) : at::arange(first, first + 2, at::kFloat);
      EXPECT_TRUE(at::equal(box.narrow(0, 7 * from, 2), want)) << "from rank " << from;
    }
    EXPECT_THROW((void)ranks.deal_async(sent, {}), c10::Error);
    EXPECT_THROW((void)ranks.deal_async(sent, std::vector<at::Tensor>(3, at::zeros({3}))), c10::Error);
  };
  run_thread_ranks(3, body, Reach::kHostMemory);
  run_thread_ranks(2, [](Communicator& ranks) {
    EXPECT_FALSE(ranks.has_host_memory());
    EXPECT_THROW((void)ranks.deal_async(at::zeros({2}), std::vector<at::Tensor>(2, at::zeros({1}))),
                 c10::Error);
  });
}

/// Tensors of all sizes, so that some buckets fit into what was sent of an earlier one, and some do not.
ArenaLayout layout_of(const std::vector<std::int64_t>& sizes, std::int64_t bucket_elements,
                      std::int64_t world) {
  std::vector<TensorSpec> specs;
  for (const std::int64_t size : sizes)
    specs.push_back({.name = "tensor." + std::to_string(specs.size()), .shape = {size}});
  return ArenaLayout(specs, {.bucket_elements = bucket_elements, .world = world});
}

/// Gradients of one rank in one step: no two elements alike.
void fill(const ArenaLayout& layout, const at::Tensor& flat, std::int64_t rank, std::int64_t step) {
  for (std::int64_t entry = 0; entry < static_cast<std::int64_t>(layout.entries().size()); ++entry) {
    at::Tensor view = layout.view(flat, entry);
    view.copy_(at::arange(view.numel(), view.options()).add(static_cast<double>(entry + 100 * step)).sin());
    view.mul_(static_cast<double>(rank + 1) / 3);
  }
}

void reduce(GradientReducer& reducer, const ArenaLayout& layout, bool early) {
  reducer.start();
  for (auto entry = static_cast<std::int64_t>(layout.entries().size()); entry-- > 0;)
    reducer.mark_ready(entry);
  if (early) reducer.wait(static_cast<std::int64_t>(layout.buckets().size()) - 1);
  (void)reducer.finish();
}

/// Step after step in the same buffers, with the bits of the all-reduce of each; padding stays zero.
RC_GTEST_PROP(PushedReduction, HasTheBitsOfTheAllReduce, ()) {
  const auto ranks = *rc::gen::inRange<std::int64_t>(1, 6);
  const auto sizes = *rc::gen::nonEmpty(
      rc::gen::container<std::vector<std::int64_t>>(rc::gen::inRange<std::int64_t>(1, 9'000)));
  const auto bucket_elements = *rc::gen::inRange<std::int64_t>(1, 12'000);
  const auto progress = *rc::gen::element(ReducerProgress::kCaller, ReducerProgress::kThread);
  const auto mode = *rc::gen::element(ReduceMode::kReduceScatter, ReduceMode::kReduceScatterAllGather);
  const auto reach = *rc::gen::element(Reach::kPeerMemory, Reach::kHostMemory);
  const auto early = *rc::gen::arbitrary<bool>() && mode == ReduceMode::kReduceScatter;
  std::mutex mutex;
  std::int64_t right = 0;
  const auto body = [&](Communicator& communicator) {
    const ArenaLayout layout = layout_of(sizes, bucket_elements, ranks);
    const at::Tensor want = layout.allocate(at::kFloat, at::kCPU);
    const at::Tensor flat = buffer_of(communicator, layout.size());
    GradientReducer plain(layout, want, communicator);
    GradientReducer pushing(layout, flat, communicator, {.mode = mode, .progress = progress});
    bool rank_right = true;
    for (std::int64_t step = 0; step < 3; ++step) {
      fill(layout, want, communicator.rank(), step);
      reduce(plain, layout, false);
      fill(layout, flat, communicator.rank(), step);
      reduce(pushing, layout, early);
      const std::vector<Range> all = {{0, layout.size()}};
      for (const Range& range : mode == ReduceMode::kReduceScatter ? layout.owned(communicator.rank()) : all)
        rank_right = rank_right && at::equal(flat.narrow(0, range.begin, range.numel()),
                                             want.narrow(0, range.begin, range.numel()));
    }
    const std::lock_guard lock(mutex);
    right += rank_right;
  };
  run_thread_ranks(ranks, body, reach);
  RC_ASSERT(right == ranks);
}

TEST(PushedReduction, RefusesWhatItDoesNotSum) {
  const auto body = [](Communicator& ranks) {
    const ArenaLayout layout = layout_of({100, 200}, 50, 2);
    EXPECT_THROW(PushedReduction(layout, layout.allocate(at::kFloat, at::kCPU), ranks), c10::Error);
    const at::Tensor doubles = ranks.exchange_buffer(layout.size(), at::kDouble, at::kCPU);
    EXPECT_THROW(PushedReduction(layout, doubles, ranks), c10::Error);
    const ArenaLayout for_three = layout_of({100, 200}, 50, 3);
    EXPECT_THROW(PushedReduction(for_three, buffer_of(ranks, for_three.size()), ranks), c10::Error);
  };
  run_thread_ranks(2, body, Reach::kPeerMemory);
}

/// Who writes his slices to the other's buffer too needs no gather, whatever bucket is waited for.
TEST(BucketGather, WhatTheOtherWroteIsThere) {
  const auto body = [](Communicator& ranks) {
    const ArenaLayout layout = layout_of({3000, 5, 700, 9000}, 1000, 2);
    const at::Tensor flat = buffer_of(ranks, layout.size());
    BucketGather gather(layout, flat, ranks);
    ASSERT_TRUE(gather.other().defined());
    for (std::int64_t step = 1; step <= 3; ++step) {
      const auto value = [&](std::int64_t rank) { return static_cast<double>(10 * step + rank); };
      for (const Range& range : layout.owned(ranks.rank()))
        for (const at::Tensor& buffer : {flat, gather.other()})
          buffer.narrow(0, range.begin, range.numel()).fill_(value(ranks.rank()));
      gather.start_written();
      gather.wait(step);
      for (std::int64_t rank = 0; rank < 2; ++rank)
        for (const Range& range : layout.owned(rank))
          EXPECT_TRUE(flat.narrow(0, range.begin, range.numel()).eq(value(rank)).all().item<bool>());
      gather.finish();
      ranks.barrier();  // all have read
    }
  };
  run_thread_ranks(2, body, Reach::kPeerMemory);
}

/// Of three ranks no update writes to both others: they gather.
TEST(BucketGather, GathersWhereThereAreMoreThanTwo) {
  const auto body = [](Communicator& ranks) {
    const ArenaLayout layout = layout_of({3000, 9000}, 1000, 3);
    EXPECT_FALSE(BucketGather(layout, buffer_of(ranks, layout.size()), ranks).other().defined());
  };
  run_thread_ranks(3, body, Reach::kPeerMemory);
}

}  // namespace
}  // namespace sluice::parallel
