#include "parallel/arena.h"

#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <limits>
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

std::int64_t aligned(std::int64_t elements) {
  constexpr std::int64_t kStep = ArenaLayout::kAlignment;
  return (elements + kStep - 1) / kStep * kStep;
}

}  // namespace

ArenaLayout::ArenaLayout(const std::vector<TensorSpec>& specs) {
  std::unordered_set<std::string> names;
  for (const TensorSpec& spec : specs) {
    if (!names.insert(spec.name).second) throw std::invalid_argument("two tensors are named " + spec.name);
    const std::int64_t numel = count_elements(spec);
    entries_.push_back({spec.name, spec.shape, size_, numel});
    size_ = aligned(size_ + numel);
  }
}

std::optional<std::int64_t> ArenaLayout::find(std::string_view name) const {
  for (std::size_t index = 0; index < entries_.size(); ++index)
    if (entries_[index].name == name) return static_cast<std::int64_t>(index);
  return std::nullopt;
}

at::Tensor ArenaLayout::allocate(at::ScalarType dtype, at::Device device) const {
  return at::zeros({size_}, at::TensorOptions().dtype(dtype).device(device));
}

at::Tensor ArenaLayout::view(const at::Tensor& flat, std::int64_t index) const {
  TORCH_CHECK(flat.dim() == 1 && flat.size(0) == size_ && flat.is_contiguous(), "the arena has ", size_,
              " elements in one contiguous row, got sizes ", flat.sizes());
  TORCH_CHECK(index >= 0 && index < static_cast<std::int64_t>(entries_.size()), "the arena has ",
              entries_.size(), " entries, got index ", index);
  const Entry& entry = entries_[static_cast<std::size_t>(index)];
  return flat.narrow(0, entry.offset, entry.numel).view(entry.shape);
}

std::vector<Bucket> plan_buckets(const ArenaLayout& layout, std::int64_t bucket_elements) {
  if (bucket_elements < 1)
    throw std::invalid_argument("a bucket holds at least 1 element, got " + std::to_string(bucket_elements));
  std::vector<Bucket> buckets;
  const auto& entries = layout.entries();
  std::int64_t end = layout.size();
  auto last_entry = static_cast<std::int64_t>(entries.size());
  for (std::int64_t first = last_entry - 1; first >= 0; --first) {
    const std::int64_t begin = entries[static_cast<std::size_t>(first)].offset;
    if (end - begin < bucket_elements && first > 0) continue;
    buckets.push_back({begin, end, first, last_entry});
    end = begin;
    last_entry = first;
  }
  return buckets;
}

}  // namespace sluice::parallel
