#include "parallel/arena.h"

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <stdexcept>

namespace sluice::parallel {
namespace {

std::vector<TensorSpec> random_specs() {
  const auto shapes = *rc::gen::container<std::vector<std::vector<std::int64_t>>>(rc::gen::resize(
      3, rc::gen::container<std::vector<std::int64_t>>(rc::gen::inRange<std::int64_t>(0, 40))));
  std::vector<TensorSpec> specs;
  for (const auto& shape : shapes) specs.push_back({"tensor." + std::to_string(specs.size()), shape});
  return specs;
}

RC_GTEST_PROP(ArenaLayout, EntriesAreInOrderAlignedAndApart, ()) {
  const auto specs = random_specs();
  const ArenaLayout layout(specs);
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
    RC_ASSERT(entry.offset >= free && entry.offset < free + ArenaLayout::kAlignment);
    free = entry.offset + numel;
    RC_ASSERT(layout.find(entry.name) == static_cast<std::int64_t>(i));
  }
  RC_ASSERT(layout.size() >= free && layout.size() < free + ArenaLayout::kAlignment);
  RC_ASSERT(layout.size() % ArenaLayout::kAlignment == 0);
  RC_ASSERT(!layout.find("another").has_value());
}

RC_GTEST_PROP(ArenaLayout, ViewsShareTheBufferAndLeaveThePaddingZero, ()) {
  const ArenaLayout layout(random_specs());
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

RC_GTEST_PROP(PlanBuckets, HoldEachElementOnceFromTheEnd, ()) {
  const ArenaLayout layout(random_specs());
  const auto least = *rc::gen::inRange<std::int64_t>(1, 3000);
  const auto buckets = plan_buckets(layout, least);
  const auto& entries = layout.entries();
  RC_ASSERT(buckets.empty() == entries.empty());
  std::int64_t end = layout.size();
  auto last_entry = static_cast<std::int64_t>(entries.size());
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    RC_ASSERT(buckets[i].end == end);
    RC_ASSERT(buckets[i].last_entry == last_entry);
    RC_ASSERT(buckets[i].first_entry < last_entry);
    RC_ASSERT(buckets[i].begin == entries[static_cast<std::size_t>(buckets[i].first_entry)].offset);
    if (i + 1 < buckets.size()) RC_ASSERT(buckets[i].end - buckets[i].begin >= least);
    // Not larger than needed: without its first entry it would be too small.
    if (buckets[i].last_entry - buckets[i].first_entry > 1)
      RC_ASSERT(buckets[i].end - entries[static_cast<std::size_t>(buckets[i].first_entry) + 1].offset <
                least);
    end = buckets[i].begin;
    last_entry = buckets[i].first_entry;
  }
  RC_ASSERT(end == 0);
  RC_ASSERT(last_entry == 0);
}

TEST(ArenaLayout, RefusesWhatItCannotLayOut) {
  EXPECT_THROW(ArenaLayout({{"a", {2}}, {"b", {}}, {"a", {3}}}), std::invalid_argument);
  EXPECT_THROW(ArenaLayout({{"a", {2, -1}}}), std::invalid_argument);
  EXPECT_THROW(ArenaLayout({{"a", {std::int64_t{1} << 40, std::int64_t{1} << 40}}}), std::invalid_argument);
  const ArenaLayout layout({{"a", {2, 3}}});
  EXPECT_THROW((void)plan_buckets(layout, 0), std::invalid_argument);
  const at::Tensor flat = layout.allocate(at::kFloat, at::kCPU);
  EXPECT_THROW((void)layout.view(flat, 1), c10::Error);
  EXPECT_THROW((void)layout.view(flat.narrow(0, 0, 6), 0), c10::Error);
}

}  // namespace
}  // namespace sluice::parallel
