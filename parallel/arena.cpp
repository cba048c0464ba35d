#include "parallel/arena.h"

#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <numeric>
#include <ranges>
#include <stdexcept>
#include <unordered_set>
#include <utility>

namespace sluice::parallel {
namespace {

std::int64_t count_elements(const TensorSpec& spec) {
  std::int64_t numel = 1;
  for (const std::int64_t extent : spec.shape) {
    if (extent < 0 || (extent > 0 && numel > std::numeric_limits<std::int64_t>::max() / 64 / extent))
      throw std::invalid_argument("tensor " + spec.name + ": extent " + std::to_string(extent) +
                                  " is negative or makes it too large");
    numel *= extent;
  }
  return numel;
}

/// Elements that a tensor takes, alignment left out.
std::int64_t room_of(const TensorSpec& spec) { return std::max(count_elements(spec), spec.room); }

std::int64_t round_up(std::int64_t elements, std::int64_t multiple) {
  return (elements + multiple - 1) / multiple * multiple;
}

std::vector<ArenaLayout::Entry> make_entries(const std::vector<TensorSpec>& specs) {
  std::vector<ArenaLayout::Entry> entries;
  std::unordered_set<std::string> names;
  for (const TensorSpec& spec : specs) {
    if (!names.insert(spec.name).second) throw std::invalid_argument("two tensors are named " + spec.name);
    entries.push_back({.name = spec.name, .shape = spec.shape, .offset = 0, .numel = count_elements(spec)});
  }
  return entries;
}

/// Which entries each bucket holds, from the end to the start; places come later.
std::vector<Bucket> cut_buckets(const std::vector<TensorSpec>& specs, const BucketPlan& plan) {
  const auto part = [&](const TensorSpec& a, const TensorSpec& b) {
    return a.holders != b.holders || (plan.world > 1 && a.late != b.late);
  };
  std::vector<Bucket> buckets;
  auto last_entry = static_cast<std::int64_t>(specs.size());
  std::int64_t elements = 0;
  for (std::int64_t first = last_entry - 1; first >= 0; --first) {
    const TensorSpec& spec = specs[static_cast<std::size_t>(first)];
    elements += round_up(room_of(spec), ArenaLayout::kAlignment);
    const bool border = first == 0 || part(specs[static_cast<std::size_t>(first) - 1], spec);
    if (elements < plan.bucket_elements && !border) continue;
    buckets.push_back(
        {.begin = 0, .end = 0, .first_entry = first, .last_entry = last_entry, .holders = spec.holders});
    last_entry = first;
    elements = 0;
  }
  return buckets;
}

}  // namespace

ArenaLayout::ArenaLayout(const std::vector<TensorSpec>& specs, const BucketPlan& plan)
    : entries_(make_entries(specs)), world_(plan.world), sequence_ranks_(plan.sequence_ranks) {
  if (plan.bucket_elements < 1 || plan.world < 1)
    throw std::invalid_argument("a bucket holds at least 1 element for at least 1 rank, got " +
                                std::to_string(plan.bucket_elements) + " for " + std::to_string(plan.world));
  if (plan.sequence_ranks < 1 || plan.world % plan.sequence_ranks != 0)
    throw std::invalid_argument(std::to_string(plan.world) + " ranks cannot have rows of " +
                                std::to_string(plan.sequence_ranks));
  buckets_ = cut_buckets(specs, plan);
  for (Bucket& bucket : std::views::reverse(buckets_)) {
    bucket.begin = size_;
    for (std::int64_t index = bucket.first_entry; index < bucket.last_entry; ++index) {
      Entry& entry = entries_[static_cast<std::size_t>(index)];
      entry.offset = size_;
      size_ = round_up(size_ + room_of(specs[static_cast<std::size_t>(index)]), kAlignment);
    }
    size_ = bucket.begin + round_up(size_ - bucket.begin, count(bucket.holders) * kSliceAlignment);
    bucket.end = size_;
  }
  if (plan.world == 1) return;
  std::ranges::stable_partition(buckets_, [&](const Bucket& bucket) {
    return !specs[static_cast<std::size_t>(bucket.first_entry)].late;
  });
}

std::vector<std::size_t> ArenaLayout::in_order_of_use() const {
  std::vector<std::size_t> order(buckets_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [this](std::size_t index) { return buckets_[index].first_entry; });
  return order;
}

std::optional<std::int64_t> ArenaLayout::find(std::string_view name) const {
  for (std::size_t index = 0; index < entries_.size(); ++index)
    if (entries_[index].name == name) return static_cast<std::int64_t>(index);
  return std::nullopt;
}

bool ArenaLayout::differs_by_place() const {
  return std::ranges::any_of(buckets_,
                             [](const Bucket& bucket) { return bucket.holders == Holders::kSamePlace; });
}

Range ArenaLayout::slice(std::int64_t bucket, std::int64_t rank) const {
  TORCH_CHECK(
      bucket >= 0 && bucket < static_cast<std::int64_t>(buckets_.size()) && rank >= 0 && rank < world_,
      "the arena has ", buckets_.size(), " buckets for ", world_, " ranks, got bucket ", bucket, " and rank ",
      rank);
  const Bucket& place = buckets_[static_cast<std::size_t>(bucket)];
  const std::int64_t numel = place.numel() / count(place.holders);
  const std::int64_t number = place.holders == Holders::kAllRanks ? rank : rank / sequence_ranks_;
  return {.begin = place.begin + number * numel, .end = place.begin + (number + 1) * numel};
}

std::vector<Range> ArenaLayout::slices() const {
  std::vector<Range> all;
  for (std::int64_t bucket = 0; bucket < static_cast<std::int64_t>(buckets_.size()); ++bucket)
    for (std::int64_t rank = 0; rank < world_; ++rank) all.push_back(slice(bucket, rank));
  return all;
}

std::vector<Range> ArenaLayout::owned(std::int64_t rank) const {
  std::vector<Range> ranges;
  for (const std::size_t bucket : in_order_of_use())
    ranges.push_back(slice(static_cast<std::int64_t>(bucket), rank));
  return ranges;
}

at::Tensor ArenaLayout::allocate(at::ScalarType dtype, at::Device device) const {
  return at::zeros({size_}, at::TensorOptions().dtype(dtype).device(device));
}

void ArenaLayout::check_flat(const at::Tensor& flat) const {
  TORCH_CHECK(flat.dim() == 1 && flat.size(0) == size_ && flat.is_contiguous(), "the arena has ", size_,
              " elements in one contiguous row, got sizes ", flat.sizes());
}

at::Tensor ArenaLayout::view(const at::Tensor& flat, std::int64_t index) const {
  check_flat(flat);
  TORCH_CHECK(index >= 0 && index < static_cast<std::int64_t>(entries_.size()), "the arena has ",
              entries_.size(), " entries, got index ", index);
  const Entry& entry = entries_[static_cast<std::size_t>(index)];
  return flat.narrow(0, entry.offset, entry.numel).view(entry.shape);
}

at::Tensor ArenaLayout::bucket_view(const at::Tensor& flat, std::int64_t index) const {
  check_flat(flat);
  TORCH_CHECK(index >= 0 && index < static_cast<std::int64_t>(buckets_.size()), "the arena has ",
              buckets_.size(), " buckets, got index ", index);
  const Bucket& bucket = buckets_[static_cast<std::size_t>(index)];
  return flat.narrow(0, bucket.begin, bucket.numel());
}

}  // namespace sluice::parallel
