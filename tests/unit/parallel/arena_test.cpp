#include "parallel/arena.h"

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <stdexcept>

namespace sluice::parallel {
namespace {

std::vector<TensorSpec> random_specs() {
  const auto shapes = *rc::gen::container<std::vector<std::vector<std::int64_t>>>(rc::gen::resize(
      3, rc::gen::container<std::vector<std::int64_t>>(rc::gen::inRange<std::int64_t>(0, 40))));
  std::vector<TensorSpec> specs;
  for (const auto& shape : shapes) {
    specs.push_back({"tensor." + std::to_string(specs.size()), shape});
    specs.back().late = *rc::gen::arbitrary<bool>();
  }
  return specs;
}

BucketPlan random_plan() {
  return {.bucket_elements = *rc::gen::inRange<std::int64_t>(1, 3000),
          .world = *rc::gen::inRange<std::int64_t>(1, 9)};
}

std::size_t as_index(std::int64_t value) { return static_cast<std::size_t>(value); }

RC_GTEST_PROP(ArenaLayout, EntriesAreInOrderAlignedAndApart, ()) {
  const auto specs = random_specs();
  const BucketPlan plan = random_plan();
  const ArenaLayout layout(specs, plan);
  RC_ASSERT(layout.entries().size() == specs.size());
  std::int64_t free = 0;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const auto& entry = layout.entries()[i];
    std::int64_t numel = 1;
    for (const auto extent : specs[i].shape) numel *= extent;
    RC_ASSERT(entry.name == specs[i].name);
    RC_ASSERT(entry.shape == specs[i].shape);
    RC_ASSERT(entry.numel == numel);
    RC_ASSERT(entry.offset % ArenaLayout::kAlignment == 0);
    RC_ASSERT(entry.offset >= free);
    free = entry.offset + numel;
    RC_ASSERT(layout.find(entry.name) == static_cast<std::int64_t>(i));
  }
  RC_ASSERT(layout.size() >= free);
  RC_ASSERT(!layout.find("another").has_value());
}

RC_GTEST_PROP(ArenaLayout, WithoutAPlanPadsOnlyToTheAlignment, ()) {
  const auto specs = random_specs();
  const ArenaLayout layout(specs);
  RC_ASSERT(layout.buckets().size() == (specs.empty() ? 0U : 1U));
  std::int64_t free = 0;
  for (const auto& entry : layout.entries()) {
    RC_ASSERT(entry.offset >= free && entry.offset < free + ArenaLayout::kAlignment);
    free = entry.offset + entry.numel;
  }
  RC_ASSERT(layout.size() >= free && layout.size() < free + ArenaLayout::kSliceAlignment);
}

RC_GTEST_PROP(ArenaLayout, ViewsShareTheBufferAndLeaveThePaddingZero, ()) {
  const ArenaLayout layout(random_specs(), random_plan());
  const at::Tensor flat = layout.allocate(at::kDouble, at::kCPU);
  RC_ASSERT(flat.sizes() == std::vector<std::int64_t>{layout.size()});
  for (std::size_t i = 0; i < layout.entries().size(); ++i) {
    at::Tensor view = layout.view(flat, static_cast<std::int64_t>(i));
    RC_ASSERT(view.sizes() == layout.entries()[i].shape);
    view.fill_(static_cast<double>(i + 1));
  }
  std::int64_t numel = 0;
  double expected_sum = 0;
  double sum = 0;
  std::int64_t zeros = 0;
  for (std::size_t i = 0; i < layout.entries().size(); ++i) {
    numel += layout.entries()[i].numel;
    expected_sum += static_cast<double>(layout.entries()[i].numel) * static_cast<double>(i + 1);
  }
  for (std::int64_t i = 0; i < layout.size(); ++i) {
    sum += flat.const_data_ptr<double>()[i];
    zeros += flat.const_data_ptr<double>()[i] == 0.0;
  }
  RC_ASSERT(sum == expected_sum);
  RC_ASSERT(zeros == layout.size() - numel);
}

/// Elements of a bucket's entries, each rounded up to the alignment.
std::int64_t content(const ArenaLayout& layout, std::int64_t first_entry, std::int64_t last_entry) {
  std::int64_t sum = 0;
  for (std::int64_t i = first_entry; i < last_entry; ++i)
    sum += (layout.entries()[as_index(i)].numel + 31) / 32 * 32;
  return sum;
}

RC_GTEST_PROP(ArenaLayout, BucketsHoldEachElementOnceFromTheEnd, ()) {
  const BucketPlan plan = random_plan();
  const auto specs = random_specs();
  const ArenaLayout layout(specs, plan);
  const auto parted = [&](std::int64_t entry) {  // from the entry before
    return entry == 0 || (plan.world > 1 && specs[as_index(entry - 1)].late != specs[as_index(entry)].late);
  };
  const auto& buckets = layout.buckets();
  const auto& entries = layout.entries();
  RC_ASSERT(buckets.empty() == entries.empty());
  std::int64_t end = layout.size();
  auto last_entry = static_cast<std::int64_t>(entries.size());
  const std::vector<std::size_t> order = layout.in_order_of_use();
  RC_ASSERT(order.size() == buckets.size());
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    const std::size_t place = order[buckets.size() - 1 - i];
    const Bucket& bucket = buckets[place];
    RC_ASSERT(bucket.end == end);
    RC_ASSERT(bucket.last_entry == last_entry);
    RC_ASSERT(bucket.first_entry < last_entry);
    RC_ASSERT(bucket.begin == entries[as_index(bucket.first_entry)].offset);
    const std::int64_t held = content(layout, bucket.first_entry, last_entry);
    const std::int64_t step = plan.world * ArenaLayout::kSliceAlignment;
    RC_ASSERT(bucket.numel() % step == 0);
    RC_ASSERT(bucket.numel() >= held && bucket.numel() < held + step);
    if (!parted(bucket.first_entry)) RC_ASSERT(held >= plan.bucket_elements);
    for (std::int64_t entry = bucket.first_entry + 1; entry < last_entry; ++entry) RC_ASSERT(!parted(entry));
    // Not larger than needed: without its first entry it would be too small.
    if (last_entry - bucket.first_entry > 1)
      RC_ASSERT(content(layout, bucket.first_entry + 1, last_entry) < plan.bucket_elements);
    end = bucket.begin;
    last_entry = bucket.first_entry;
  }
  RC_ASSERT(end == 0);
  RC_ASSERT(last_entry == 0);
}

RC_GTEST_PROP(ArenaLayout, IsExchangedFromTheEndAndWhatIsLateLast, ()) {
  const BucketPlan plan = random_plan();
  const auto specs = random_specs();
  const ArenaLayout layout(specs, plan);
  const auto& buckets = layout.buckets();
  const auto late = [&](const Bucket& bucket) {
    return plan.world > 1 && specs[as_index(bucket.first_entry)].late;
  };
  for (std::size_t i = 1; i < buckets.size(); ++i) {
    const Bucket &before = buckets[i - 1], &after = buckets[i];
    RC_ASSERT(late(after) >= late(before));
    if (late(after) == late(before)) RC_ASSERT(after.first_entry < before.first_entry);
  }
}

RC_GTEST_PROP(ArenaLayout, EveryElementIsInExactlyOneSliceOfOneRank, ()) {
  const BucketPlan plan = random_plan();
  const ArenaLayout layout(random_specs(), plan);
  std::vector<std::int64_t> owners(as_index(layout.size()), -1);
  for (std::int64_t rank = 0; rank < plan.world; ++rank) {
    const std::vector<Range> owned = layout.owned(rank);
    RC_ASSERT(owned.size() == layout.buckets().size());
    std::int64_t elements = 0;
    std::int64_t free = 0;
    for (const Range& range : owned) {
      RC_ASSERT(range.begin >= free);  // ascending, disjoint
      RC_ASSERT(range.begin % ArenaLayout::kSliceAlignment == 0);
      RC_ASSERT(range.numel() % ArenaLayout::kSliceAlignment == 0);
      const auto place = owners.begin() + range.begin;
      RC_ASSERT(std::count(place, place + range.numel(), -1) == range.numel());
      std::fill_n(place, range.numel(), rank);
      free = range.end;
      elements += range.numel();
    }
    RC_ASSERT(elements * plan.world == layout.size());  // equal shares
  }
  RC_ASSERT(std::ranges::count(owners, -1) == 0);
  const std::vector<Range> slices = layout.slices();
  RC_ASSERT(slices.size() == layout.buckets().size() * as_index(plan.world));
  for (std::size_t i = 0; i < slices.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    RC_ASSERT(slices[i] == layout.slice(at / plan.world, at % plan.world));
    if (slices[i].numel() > 0) RC_ASSERT(owners[as_index(slices[i].begin)] == at % plan.world);
  }
}

TEST(ArenaLayout, RefusesWhatItCannotLayOut) {
  EXPECT_THROW(ArenaLayout({{"a", {2}}, {"b", {}}, {"a", {3}}}), std::invalid_argument);
  EXPECT_THROW(ArenaLayout({{"a", {2, -1}}}), std::invalid_argument);
  EXPECT_THROW(ArenaLayout({{"a", {std::int64_t{1} << 40, std::int64_t{1} << 40}}}), std::invalid_argument);
  const ArenaLayout layout({{"a", {2, 3}}});
  EXPECT_THROW(ArenaLayout({{"a", {2}}}, {.bucket_elements = 0, .world = 1}), std::invalid_argument);
  EXPECT_THROW(ArenaLayout({{"a", {2}}}, {.bucket_elements = 1, .world = 0}), std::invalid_argument);
  EXPECT_THROW((void)layout.slice(0, 1), c10::Error);
  EXPECT_THROW((void)layout.slice(1, 0), c10::Error);
  EXPECT_THROW((void)layout.bucket_view(layout.allocate(at::kFloat, at::kCPU), 1), c10::Error);
  const at::Tensor flat = layout.allocate(at::kFloat, at::kCPU);
  EXPECT_THROW((void)layout.view(flat, 1), c10::Error);
  EXPECT_THROW((void)layout.view(flat.narrow(0, 0, 6), 0), c10::Error);
}

}  // namespace
}  // namespace sluice::parallel
