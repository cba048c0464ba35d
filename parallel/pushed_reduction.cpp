#include "parallel/pushed_reduction.h"

#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/tensor.h>
#include <c10/util/Exception.h>

#include <memory>
#include <optional>
#include <utility>

#include "parallel/at_index.h"
#include "parallel/join_handle.h"

namespace sluice::parallel {
namespace {

/// The place of rank `other` among those that are not `rank`.
std::int64_t among_others(std::int64_t other, std::int64_t rank) { return other < rank ? other : other - 1; }

/// Positions of a flat buffer that are no entry's.
at::Tensor padding_of(const ArenaLayout& layout) {
  std::vector<std::int64_t> positions;
  std::int64_t end = 0;
  const auto pad_to = [&](std::int64_t begin) {
    for (; end < begin; ++end) positions.push_back(end);
  };
  for (const ArenaLayout::Entry& entry : layout.entries()) {
    pad_to(entry.offset);
    end = entry.offset + entry.numel;
  }
  pad_to(layout.size());
  return at::tensor(positions, at::kLong);
}

}  // namespace

bool PushedReduction::serves(const Communicator& ranks) {
  return ranks.has_peer_memory() || ranks.has_host_memory();
}

PushedReduction::PushedReduction(const ArenaLayout& layout, const at::Tensor& gradients, Communicator& ranks)
    : layout_(layout),
      gradients_(gradients),
      ranks_(ranks),
      padding_(padding_of(layout).to(gradients.device())) {
  TORCH_CHECK(
      ranks.size() == layout.world() && !layout.differs_by_place() && gradients.scalar_type() == at::kFloat,
      "PushedReduction: needs float32 that all of ", ranks.size(), " ranks hold, got ",
      gradients.scalar_type(), " of ", layout.world());
  std::int64_t room = 0;
  std::vector<bool> taken(layout.buckets().size(), false);
  const auto slice = [&](std::size_t bucket) { return layout.buckets()[bucket].numel() / ranks.size(); };
  for (std::size_t bucket = 0; bucket < layout.buckets().size(); ++bucket) {
    streams_.emplace_back(gradients.device());
    std::optional<std::size_t> behind;  // the smallest that is large enough
    for (std::size_t earlier = 0; earlier < bucket; ++earlier)
      if (!taken[earlier] && slice(earlier) >= slice(bucket) && (!behind || slice(earlier) < slice(*behind)))
        behind = earlier;
    places_.push_back({.behind = behind, .offset = room});
    if (behind) {
      taken[*behind] = true;
    } else {
      room += (ranks.size() - 1) * slice(bucket);
    }
  }
  room_ = ranks.exchange_buffer(room, at::kFloat, gradients.device());
  if (!ranks.has_peer_memory()) return;
  their_gradients_ = ranks.peer_views(gradients);
  their_rooms_ = ranks.peer_views(room_);
}

at::Tensor PushedReduction::slice_of(const at::Tensor& flat, std::int64_t bucket, std::int64_t rank) const {
  const Range range = layout_.slice(bucket, rank);
  return flat.narrow(0, range.begin, range.numel());
}

at::Tensor PushedReduction::place_of(const at::Tensor& flat, const at::Tensor& room, std::int64_t bucket,
                                     std::int64_t owner, std::int64_t from) const {
  const Place& place = places_[at_index(bucket)];
  const std::int64_t count = layout_.slice(bucket, owner).numel();
  if (place.behind) return slice_of(flat, static_cast<std::int64_t>(*place.behind), from).narrow(0, 0, count);
  return room.narrow(0, place.offset + among_others(from, owner) * count, count);
}

void PushedReduction::start() {
  added_ = 0;
  streams_.back().run([this] {
    if (ranks_.has_peer_memory()) ranks_.meet_async().wait();
    gradients_.index_fill_(0, padding_, 0);
  });
}

/// After the bucket before it: once the ranks have met over that one, its slices and those before are free.
Work PushedReduction::exchange_async(std::int64_t index) {
  if (!ranks_.has_peer_memory()) {
    if (index == 0) streams_.back().join();  // padding
    return deal(index);
  }
  const std::size_t before = index > 0 ? at_index(index) - 1 : streams_.size() - 1;
  streams_[at_index(index)].run([&] {
    streams_[before].join();
    push(index);
    ranks_.meet_async().wait();
  });
  return Work(std::make_unique<JoinHandle>(streams_[at_index(index)]));
}

/// Each rank begins with the one after it: no link carries two ranks' bytes while another waits.
void PushedReduction::push(std::int64_t bucket) {
  const std::int64_t rank = ranks_.rank();
  for (std::int64_t step = 1; step < ranks_.size(); ++step) {
    const std::int64_t owner = (rank + step) % ranks_.size();
    const std::size_t other = at_index(among_others(owner, rank));
    place_of(their_gradients_[other], their_rooms_[other], bucket, owner, rank)
        .copy_(slice_of(gradients_, bucket, owner), /*non_blocking=*/true);
  }
}

Work PushedReduction::deal(std::int64_t bucket) {
  std::vector<at::Tensor> places;
  for (std::int64_t from = 0; from < ranks_.size(); ++from)
    places.push_back(from == ranks_.rank() ? at::Tensor()
                                           : place_of(gradients_, room_, bucket, ranks_.rank(), from));
  return ranks_.deal_async(layout_.bucket_view(gradients_, bucket), places);
}

/// ((x0 + x1) + x2) + ... in place, all buckets at once: where rank 0's values are, and from this rank's on
/// in its own slice, since x + y = y + x to the bit.
void PushedReduction::add(std::int64_t buckets) {
  if (added_ >= buckets) return;
  const std::int64_t rank = ranks_.rank();
  const auto values = [&](std::int64_t from) {
    std::vector<at::Tensor> all;
    for (std::int64_t bucket = added_; bucket < buckets; ++bucket)
      all.push_back(from == rank ? slice_of(gradients_, bucket, rank)
                                 : place_of(gradients_, room_, bucket, rank, from));
    return all;
  };
  std::vector<at::Tensor> sums = values(0);
  for (std::int64_t from = 1; from < ranks_.size(); ++from) {
    std::vector<at::Tensor> next = values(from);
    if (from == rank) std::swap(sums, next);
    at::_foreach_add_(sums, next);
  }
  added_ = buckets;
}

}  // namespace sluice::parallel
