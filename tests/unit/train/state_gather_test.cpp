#include "trainer/train/state_gather.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "parallel/thread_communicator.h"

namespace sluice::train {
namespace {

parallel::ArenaLayout layout_for(std::int64_t world) {
  return parallel::ArenaLayout({{"a", {100, 50}}, {"b", {7}}, {"c", {40, 90}}, {"d", {2500}}},
                               {.bucket_elements = 2000, .world = world});
}

at::Tensor numbers(const parallel::ArenaLayout& layout, double from) {
  return at::arange(from, from + static_cast<double>(layout.size()), at::kDouble);
}

at::Tensor slices_of(const parallel::ArenaLayout& layout, const at::Tensor& whole, std::int64_t rank) {
  std::vector<at::Tensor> slices;
  for (const auto& [begin, end] : layout.owned(rank)) slices.push_back(whole.slice(0, begin, end));
  return at::cat(slices);
}

StateBuffers of_value(const std::vector<std::int64_t>& sizes, double value) {
  return {.parameters = at::full({sizes[0]}, value, at::kDouble),
          .first_moment = at::full({sizes[1]}, value, at::kDouble),
          .second_moment = at::full({sizes[1]}, value, at::kDouble)};
}

TEST(StateGather, GivesEachRankItsSlicesAndPutsThemTogetherAgain) {
  for (const std::int64_t ranks : {1, 2, 3, 4}) {
    parallel::run_thread_ranks(ranks, [&](parallel::Communicator& world) {
      const parallel::ArenaLayout layout = layout_for(ranks);
      ASSERT_GT(layout.buckets().size(), 2U);
      const StateBuffers truth{.parameters = numbers(layout, 0),
                               .first_moment = numbers(layout, 1e6),
                               .second_moment = numbers(layout, 2e6)};
      const bool first = world.rank() == 0;
      const StateBuffers live = of_value({layout.size(), layout.size() / ranks}, -1);
      StateBuffers whole;
      if (first) {
        whole = whole_buffers(layout, live);
        whole.parameters.copy_(truth.parameters);
        whole.first_moment.copy_(truth.first_moment);
        whole.second_moment.copy_(truth.second_moment);
      }
      share_state(layout, whole, live, world);
      EXPECT_TRUE(at::equal(live.parameters, truth.parameters));
      EXPECT_TRUE(at::equal(live.first_moment, slices_of(layout, truth.first_moment, world.rank())));
      EXPECT_TRUE(at::equal(live.second_moment, slices_of(layout, truth.second_moment, world.rank())));

      StateBuffers host;
      if (first) host = of_value({layout.size(), layout.size()}, -2);
      gather_state(layout, live, host, world);
      if (!first) return;
      EXPECT_TRUE(at::equal(host.parameters, truth.parameters));
      EXPECT_TRUE(at::equal(host.first_moment, truth.first_moment));
      EXPECT_TRUE(at::equal(host.second_moment, truth.second_moment));
    });
  }
}

TEST(StateGather, ParametersMayBeInSlicesToo) {
  for (const std::int64_t ranks : {1, 2, 3}) {
    parallel::run_thread_ranks(ranks, [&](parallel::Communicator& world) {
      const parallel::ArenaLayout layout = layout_for(ranks);
      const at::Tensor truth = numbers(layout, 0);
      const at::Tensor live = at::full({layout.size() / ranks}, -1.0, at::kDouble);
      at::Tensor whole;
      if (world.rank() == 0) {
        whole = whole_buffer(layout, live);
        EXPECT_EQ(whole.is_same(live), ranks == 1);
        whole.copy_(truth);
      }
      share_buffer(layout, whole, live, world);
      EXPECT_TRUE(at::equal(live, slices_of(layout, truth, world.rank())));
      StateBuffers host;
      if (world.rank() == 0) host = of_value({layout.size(), layout.size()}, -2);
      gather_state(layout, {.parameters = live, .first_moment = live, .second_moment = live}, host, world);
      if (world.rank() != 0) return;
      EXPECT_TRUE(at::equal(host.parameters, truth));
    });
  }
}

TEST(StateGather, WholeMomentsStayWhole) {
  parallel::run_thread_ranks(3, [&](parallel::Communicator& world) {
    const parallel::ArenaLayout layout = layout_for(3);
    const auto rank = static_cast<double>(world.rank());
    const StateBuffers live = of_value({layout.size(), layout.size()}, rank + 5);
    const StateBuffers whole = whole_buffers(layout, live);
    EXPECT_TRUE(whole.first_moment.is_same(live.first_moment)) << "nothing to copy";
    share_state(layout, whole, live, world);
    EXPECT_EQ(live.second_moment.sum().item<double>(), 5.0 * static_cast<double>(layout.size()));
    const StateBuffers host = of_value({layout.size(), layout.size()}, 0);
    gather_state(layout, live, host, world);
    EXPECT_EQ(at::equal(host.second_moment, live.second_moment), world.rank() == 0);
  });
}

TEST(StateGather, RefusesAStateThatIsNeither) {
  const parallel::ArenaLayout layout = layout_for(2);
  EXPECT_THROW(static_cast<void>(whole_buffers(layout, of_value({layout.size(), layout.size() / 2 + 1}, 0))),
               c10::Error);
}

}  // namespace
}  // namespace sluice::train
