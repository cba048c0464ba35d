#include "trainer/train/update_slices.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstdint>
#include <utility>

namespace sluice::train {

at::Tensor block_updates(const Replica& replica) {
  constexpr std::int64_t kBlock = kernels::kDecayBlock;
  const at::Tensor flags = at::zeros({replica.layout().size() / kBlock}, at::kByte);
  const auto mark = [&](std::int64_t first, std::int64_t last, kernels::BlockUpdate how) {
    auto* const bytes = flags.mutable_data_ptr<std::uint8_t>();
    if (first < last) std::fill(bytes + first, bytes + last, static_cast<std::uint8_t>(how));
  };
  for (const optim::DecayRange& range : replica.decayed_ranges())
    mark(range.begin / kBlock, (range.end + kBlock - 1) / kBlock, kernels::BlockUpdate::kDecay);
  for (const optim::Range& range : replica.idle_ranges())
    mark((range.begin + kBlock - 1) / kBlock, range.end / kBlock, kernels::BlockUpdate::kNone);
  return flags.to(replica.parameters().device());
}

std::vector<kernels::UpdateSlice> slices_to_update(const Replica& replica, const optim::AdamW& optimizer,
                                                   const at::Tensor& blocks, const optim::Range& within,
                                                   const at::Tensor& copy) {
  std::vector<kernels::UpdateSlice> slices;
  std::int64_t held = 0;  // of the moments before this range
  for (const optim::Range& range : optimizer.owned()) {
    const std::int64_t begin = std::max(range.begin, within.begin);
    const std::int64_t count = std::min(range.end, within.end) - begin;
    const std::int64_t offset = held + begin - range.begin;
    held += range.numel();
    if (count <= 0) continue;
    const auto of_arena = [&](const at::Tensor& flat) {
      return flat.defined() ? flat.narrow(0, begin, count) : flat;
    };
    slices.push_back({.parameters = replica.owner() ? replica.parameters().narrow(0, offset, count)
                                                    : of_arena(replica.parameters()),
                      .gradients = of_arena(replica.gradients()),
                      .first = optimizer.first_moment().narrow(0, offset, count),
                      .second = optimizer.second_moment().narrow(0, offset, count),
                      .compute = of_arena(replica.rounded()),
                      .blocks = blocks.narrow(0, begin / kernels::kDecayBlock, count / kernels::kDecayBlock),
                      .copy = of_arena(copy)});
  }
  return slices;
}

UpdateOrder order_updates(const Replica& replica, const optim::AdamW& optimizer, const at::Tensor& blocks,
                          const UpdateParts& parts, const at::Tensor& copy) {
  std::vector<optim::Range> first, most, last;
  const auto& buckets = replica.layout().buckets();
  const std::vector<std::size_t> order = replica.layout().in_order_of_use();
  for (const std::size_t place : order) {
    const parallel::Bucket& bucket = buckets[place];
    const bool early =
        (parts.early == GatheredEarly::kHeldByAll && bucket.holders == parallel::Holders::kAllRanks) ||
        (parts.early == GatheredEarly::kUsedFirst && place == order.front());
    const bool awaited = parts.awaits_last && place + 1 == buckets.size();
    auto& ranges = early ? first : awaited ? last : most;
    if (!ranges.empty() && ranges.back().end == bucket.begin) {
      ranges.back().end = bucket.end;
    } else {
      ranges.push_back({bucket.begin, bucket.end});
    }
  }
  const auto slices = [&](const std::vector<optim::Range>& ranges) {
    std::vector<kernels::UpdateSlice> all;
    for (const optim::Range& range : ranges)
      for (auto& slice : slices_to_update(replica, optimizer, blocks, range, copy))
        all.push_back(std::move(slice));
    return all;
  };
  return {.first = slices(first), .most = slices(most), .last = slices(last)};
}

}  // namespace sluice::train
