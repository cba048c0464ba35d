#include "parallel/gradient_reducer.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <mutex>
#include <numeric>
#include <random>
#include <stdexcept>

#include "parallel/agree.h"
#include "parallel/bucket_gather.h"
#include "parallel/thread_communicator.h"

namespace sluice::parallel {
namespace {

ArenaLayout small_layout(std::int64_t bucket_elements, std::int64_t world = 1) {
  return ArenaLayout({{"a", {5}}, {"b", {40, 3}}, {"c", {}}, {"d", {33}}, {"e", {64}}, {"f", {7, 7}}},
                     {.bucket_elements = bucket_elements, .world = world});
}

RC_GTEST_PROP(GradientReducer, SumsOverRanksWhateverTheOrderOfReadiness, ()) {
  const auto seed = *rc::gen::arbitrary<std::uint32_t>();
  const auto ranks = *rc::gen::inRange<std::int64_t>(1, 5);
  const auto bucket_elements = *rc::gen::inRange<std::int64_t>(1, 400);
  const auto progress = *rc::gen::element(ReducerProgress::kCaller, ReducerProgress::kThread);
  std::mutex faults_mutex;
  std::vector<std::string> faults;
  run_thread_ranks(ranks, [&](Communicator& communicator) {
    const ArenaLayout layout = small_layout(bucket_elements, ranks);
    const at::Tensor gradients = layout.allocate(at::kDouble, at::kCPU);
    GradientReducer reducer(layout, gradients, communicator, {.progress = progress});
    std::mt19937 random(seed + static_cast<std::uint32_t>(communicator.rank()));
    std::vector<std::int64_t> order(layout.entries().size());
    std::iota(order.begin(), order.end(), 0);
    for (int step = 0; step < 3; ++step) {
      gradients.zero_();
      std::shuffle(order.begin(), order.end(), random);  // each rank its own
      reducer.start();
      for (const std::int64_t entry : order) {
        layout.view(gradients, entry)
            .fill_(static_cast<double>((entry + 1) * (communicator.rank() + 1 + step)));
        reducer.mark_ready(entry);
      }
      const double waited = reducer.finish();
      double rank_sum = 0;
      for (std::int64_t rank = 0; rank < communicator.size(); ++rank)
        rank_sum += static_cast<double>(rank + 1 + step);
      bool right = waited >= 0;
      for (const std::int64_t entry : order)
        right =
            right &&
            layout.view(gradients, entry).eq(static_cast<double>(entry + 1) * rank_sum).all().item<bool>();
      const std::lock_guard lock(faults_mutex);
      if (!right)
        faults.push_back("rank " + std::to_string(communicator.rank()) + " step " + std::to_string(step));
    }
  });
  RC_ASSERT(faults.empty());
}

/// Gradients of one rank: no two elements alike, so that what stands in a wrong place shows.
void fill(const ArenaLayout& layout, const at::Tensor& flat, std::int64_t rank) {
  for (std::int64_t entry = 0; entry < static_cast<std::int64_t>(layout.entries().size()); ++entry) {
    at::Tensor view = layout.view(flat, entry);
    view.copy_(at::arange(view.numel(), view.options())
                   .view(view.sizes())
                   .add(static_cast<double>(entry))
                   .sin()
                   .mul(static_cast<double>(rank + 1) / 3));
  }
}

/// A step whose gradients are all there, from the last to the first.
void start_with_all(GradientReducer& reducer, const ArenaLayout& layout) {
  reducer.start();
  for (auto entry = static_cast<std::int64_t>(layout.entries().size()); entry-- > 0;)
    reducer.mark_ready(entry);
}

void reduce(const ArenaLayout& layout, const at::Tensor& flat, Communicator& communicator,
            const ReducerOptions& options) {
  GradientReducer reducer(layout, flat, communicator, options);
  start_with_all(reducer, layout);
  (void)reducer.finish();
}

RC_GTEST_PROP(GradientReducer, ScatteredAndGatheredIsTheAllReduceBitForBit, ()) {
  const auto ranks = *rc::gen::inRange<std::int64_t>(1, 6);
  const auto bucket_elements = *rc::gen::inRange<std::int64_t>(1, 400);
  const auto progress = *rc::gen::element(ReducerProgress::kCaller, ReducerProgress::kThread);
  const auto apart = *rc::gen::arbitrary<bool>();
  std::mutex mutex;
  std::int64_t right = 0;
  run_thread_ranks(ranks, [&](Communicator& communicator) {
    const ArenaLayout layout = small_layout(bucket_elements, ranks);
    const auto reduced = [&](ReduceMode mode) {
      const at::Tensor flat = layout.allocate(at::kFloat, at::kCPU);
      fill(layout, flat, communicator.rank());
      reduce(layout, flat, communicator, {.mode = mode, .progress = progress});
      return flat;
    };
    const at::Tensor want = reduced(ReduceMode::kAllReduce);
    const at::Tensor scattered = reduced(ReduceMode::kReduceScatter);
    bool own_right = true;
    for (const Range& range : layout.owned(communicator.rank()))
      own_right = own_right && at::equal(scattered.narrow(0, range.begin, range.numel()),
                                         want.narrow(0, range.begin, range.numel()));
    BucketGather gather(layout, scattered, communicator);
    if (apart) {
      gather.start_first();
      gather.finish();
      gather.start_but_first();
    } else {
      gather.start();
    }
    gather.wait(static_cast<std::int64_t>(layout.entries().size()) - 1);
    gather.wait(0);
    gather.finish();
    const bool whole_right =
        at::equal(scattered, want) && at::equal(reduced(ReduceMode::kReduceScatterAllGather), want);
    const std::lock_guard lock(mutex);
    right += own_right && whole_right;
  });
  RC_ASSERT(right == ranks);
}

/// What finish_slices() promises, and finish() after it or alone.
RC_GTEST_PROP(GradientReducer, LastBucketInHalvesIsTheAllReduceBitForBit, ()) {
  const auto ranks = *rc::gen::inRange<std::int64_t>(1, 6);
  const auto bucket_elements = *rc::gen::inRange<std::int64_t>(1, 400);
  const auto progress = *rc::gen::element(ReducerProgress::kCaller, ReducerProgress::kThread);
  const auto asks = *rc::gen::arbitrary<bool>();
  const auto gathers = *rc::gen::arbitrary<bool>();
  std::mutex mutex;
  std::int64_t right = 0;
  run_thread_ranks(ranks, [&](Communicator& communicator) {
    const ArenaLayout layout = small_layout(bucket_elements, ranks);
    const at::Tensor want = layout.allocate(at::kFloat, at::kCPU);
    fill(layout, want, communicator.rank());
    reduce(layout, want, communicator, {});
    const at::Tensor flat = layout.allocate(at::kFloat, at::kCPU);
    GradientReducer reducer(layout, flat, communicator,
                            {.last = LastBucket::kInHalves, .progress = progress});
    bool rank_right = reducer.halves_last() == (ranks > 1);
    for (int step = 0; step < 2; ++step) {
      fill(layout, flat, communicator.rank());
      start_with_all(reducer, layout);
      const auto is_right = [&](const Range& range) {
        return at::equal(flat.narrow(0, range.begin, range.numel()),
                         want.narrow(0, range.begin, range.numel()));
      };
      if (asks) {
        reducer.finish_slices();
        const auto last = static_cast<std::int64_t>(layout.buckets().size()) - 1;
        rank_right = rank_right && is_right(layout.slice(last, communicator.rank())) &&
                     is_right({layout.buckets().back().end, layout.size()});
        if (gathers) reducer.gather_last();
      }
      (void)reducer.finish();
      rank_right = rank_right && is_right({0, layout.size()});
    }
    const std::lock_guard lock(mutex);
    right += rank_right;
  });
  RC_ASSERT(right == ranks);
}

/// What wait() promises, whoever moves the exchange.
RC_GTEST_PROP(GradientReducer, FirstBucketsAreThereBeforeTheLast, ()) {
  const auto ranks = *rc::gen::inRange<std::int64_t>(1, 5);
  const auto bucket_elements = *rc::gen::inRange<std::int64_t>(1, 400);
  const auto progress = *rc::gen::element(ReducerProgress::kCaller, ReducerProgress::kThread);
  const auto mode = *rc::gen::element(ReduceMode::kAllReduce, ReduceMode::kReduceScatter);
  std::mutex mutex;
  std::int64_t right = 0;
  run_thread_ranks(ranks, [&](Communicator& communicator) {
    const ArenaLayout layout = small_layout(bucket_elements, ranks);
    const at::Tensor want = layout.allocate(at::kFloat, at::kCPU);
    fill(layout, want, communicator.rank());
    reduce(layout, want, communicator, {});
    const at::Tensor flat = layout.allocate(at::kFloat, at::kCPU);
    fill(layout, flat, communicator.rank());
    GradientReducer reducer(layout, flat, communicator, {.mode = mode, .progress = progress});
    start_with_all(reducer, layout);
    const auto is_right = [&](std::int64_t bucket) {
      const Range own = layout.slice(bucket, communicator.rank());
      const auto part = [&](const at::Tensor& all) {
        return mode == ReduceMode::kAllReduce ? layout.bucket_view(all, bucket)
                                              : all.narrow(0, own.begin, own.numel());
      };
      return at::equal(part(flat), part(want));
    };
    const auto buckets = static_cast<std::int64_t>(layout.buckets().size());
    reducer.wait(buckets - 1);
    bool all_right = true;
    for (std::int64_t bucket = 0; bucket + 1 < buckets; ++bucket) all_right = all_right && is_right(bucket);
    reducer.wait(buckets - 1);  // again costs nothing
    all_right = reducer.finish() >= 0 && all_right && is_right(buckets - 1);
    const std::lock_guard lock(mutex);
    right += all_right;
  });
  RC_ASSERT(right == ranks);
}

TEST(BucketGather, RefusesALayoutForAnotherWorld) {
  const auto local = make_local_communicator();
  const ArenaLayout layout = small_layout(10, 2);
  const at::Tensor flat = layout.allocate(at::kFloat, at::kCPU);
  EXPECT_THROW(BucketGather(layout, flat, *local), c10::Error);
  EXPECT_THROW(GradientReducer(layout, flat, *local, {.mode = ReduceMode::kReduceScatter}), c10::Error);
  const ArenaLayout fitting = small_layout(10);
  BucketGather gather(fitting, fitting.allocate(at::kFloat, at::kCPU), *local);
  gather.start();
  EXPECT_THROW(gather.wait(6), c10::Error);
}

TEST(GradientReducer, RefusesMisuse) {
  const auto local = make_local_communicator();
  const ArenaLayout layout = small_layout(10);
  const at::Tensor gradients = layout.allocate(at::kFloat, at::kCPU);
  EXPECT_THROW(GradientReducer(layout, gradients.narrow(0, 0, 32), *local), c10::Error);
  GradientReducer reducer(layout, gradients, *local);
  EXPECT_THROW(reducer.mark_ready(0), c10::Error);
  EXPECT_THROW(reducer.progress(), c10::Error);
  EXPECT_THROW((void)reducer.finish(), c10::Error);
  EXPECT_THROW(reducer.wait(0), c10::Error);
  reducer.start();
  EXPECT_THROW(reducer.start(), c10::Error);
  EXPECT_THROW(reducer.mark_ready(6), c10::Error);
  reducer.mark_ready(2);
  EXPECT_THROW(reducer.mark_ready(2), c10::Error);
  EXPECT_THROW(reducer.wait(0), c10::Error);  // entries are missing
  EXPECT_THROW(reducer.wait(100), c10::Error);
  try {
    (void)reducer.finish();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const c10::Error& error) {
    EXPECT_NE(std::string(error.what()).find("(a) was never ready"), std::string::npos) << error.what();
  }
}

TEST(GradientReducer, ThrowsTheFaultOfItsThread) {
  for (const auto progress : {ReducerProgress::kCaller, ReducerProgress::kThread}) {
    bool waiting_rank_threw = false;
    const auto reduce = [&](Communicator& communicator) {
      const ArenaLayout layout = small_layout(1);
      const at::Tensor gradients = layout.allocate(at::kFloat, at::kCPU);
      GradientReducer reducer(layout, gradients, communicator, {.progress = progress});
      reducer.start();
      for (std::int64_t entry = 5; entry >= 0; --entry) {
        if (communicator.rank() == 1 && entry == 3) throw std::domain_error("tilt");
        reducer.mark_ready(entry);
      }
      (void)reducer.finish();
    };
    EXPECT_THROW(run_thread_ranks(2,
                                  [&](Communicator& communicator) {
                                    try {
                                      reduce(communicator);
                                    } catch (const PeerError&) {
                                      waiting_rank_threw = communicator.rank() == 0;
                                      throw;
                                    }
                                  }),
                 std::domain_error);
    EXPECT_TRUE(waiting_rank_threw);
  }
}

}  // namespace
}  // namespace sluice::parallel
