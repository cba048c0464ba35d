#include "parallel/arena.h"

#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <ranges>
#include <stdexcept>
#include <unordered_set>

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
std::vector<Bucket> cut_buckets(const std::vector<ArenaLayout::Entry>& entries,
                                std::int64_t bucket_elements) {
  std::vector<Bucket> buckets;
  auto last_entry = static_cast<std::int64_t>(entries.size());
  std::int64_t elements = 0;
  for (std::int64_t first = last_entry - 1; first >= 0; --first) {
    elements += round_up(entries[static_cast<std::size_t>(first)].numel, ArenaLayout::kAlignment);
    if (elements < bucket_elements && first > 0) continue;
    buckets.push_back({.begin = 0, .end = 0, .first_entry = first, .last_entry = last_entry});
    last_entry = first;
    elements = 0;
  }
  return buckets;
}

}  // namespace

ArenaLayout::ArenaLayout(const std::vector<TensorSpec>& specs, const BucketPlan& plan)
    : entries_(make_entries(specs)), world_(plan.world) {
  if (plan.bucket_elements < 1 || plan.world < 1)
    throw std::invalid_argument("a bucket holds at least 1 element for at least 1 rank, got " +
                                std::to_string(plan.bucket_elements) + " for " + std::to_string(plan.world));
  buckets_ = cut_buckets(entries_, plan.bucket_elements);
  for (Bucket& bucket : std::views::reverse(buckets_)) {
    bucket.begin = size_;
    for (std::int64_t index = bucket.first_entry; index < bucket.last_entry; ++index) {
      Entry& entry = entries_[static_cast<std::size_t>(index)];
      entry.offset = size_;
      size_ = round_up(size_ + entry.numel, kAlignment);
    }
    size_ = bucket.begin + round_up(size_ - bucket.begin, world_ * kSliceAlignment);
    bucket.end = size_;
  }
}

std::optional<std::int64_t> ArenaLayout::find(std::string_view name) const {
  for (std::size_t index = 0; index < entries_.size(); ++index)
    if (entries_[index].name == name) return static_cast<std::int64_t>(index);
  return std::nullopt;
}

Range ArenaLayout::slice(std::int64_t bucket, std::int64_t rank) const {
  TORCH_CHECK(
      bucket >= 0 && bucket < static_cast<std::int64_t>(buckets_.size()) && rank >= 0 && rank < world_,
      "the arena has ", buckets_.size(), " buckets for ", world_, " ranks, got bucket ", bucket, " and rank ",
      rank);
  const Bucket& place = buckets_[static_cast<std::size_t>(bucket)];
  const std::int64_t numel = place.numel() / world_;
  return {.begin = place.begin + rank * numel, .end = place.begin + (rank + 1) * numel};
}

std::vector<Range> ArenaLayout::slices() const {
  std::vector<Range> all;
  for (std::int64_t bucket = 0; bucket < static_cast<std::int64_t>(buckets_.size()); ++bucket)
    for (std::int64_t rank = 0; rank < world_; ++rank) all.push_back(slice(bucket, rank));
  return all;
}

std::vector<Range> ArenaLayout::owned(std::int64_t rank) const {
  std::vector<Range> ranges;
  for (auto bucket = static_cast<std::int64_t>(buckets_.size()) - 1; bucket >= 0; --bucket)
    ranges.push_back(slice(bucket, rank));
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
