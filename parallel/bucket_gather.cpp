#include "parallel/bucket_gather.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <utility>

#include "parallel/at_index.h"

namespace sluice::parallel {

BucketGather::BucketGather(const ArenaLayout& layout, const at::Tensor& flat, BucketGroups groups)
    : layout_(layout),
      flat_(flat),
      groups_(groups),
      order_(layout.in_order_of_use()),
      running_(order_.size()),
      place_of_entry_(layout.entries().size()) {
  groups_.check(layout);
  Communicator& ranks = groups_.all();
  if (ranks.has_peer_memory() && ranks.size() == 2 && !layout.differs_by_place())
    other_ = ranks.peer_views(flat).front();
  for (std::size_t place = 0; place < order_.size(); ++place) {
    const Bucket& bucket = layout.buckets()[order_[place]];
    for (std::int64_t entry = bucket.first_entry; entry < bucket.last_entry; ++entry)
      place_of_entry_[at_index(entry)] = place;
  }
}

void BucketGather::start_written() { meeting_ = groups_.all().meet_async(); }

void BucketGather::start() {
  for (std::size_t place = 0; place < order_.size(); ++place) start_at(place);
}

void BucketGather::start(Holders holders) {
  for (std::size_t place = 0; place < order_.size(); ++place)
    if (layout_.buckets()[order_[place]].holders == holders) start_at(place);
}

void BucketGather::start_first() { start_at(0); }

void BucketGather::start_but_first() {
  for (std::size_t place = 1; place < order_.size(); ++place) start_at(place);
}

void BucketGather::start_at(std::size_t place) {
  const std::size_t index = order_[place];
  Communicator& group = groups_.of(layout_.buckets()[index].holders);
  running_[place] = group.all_gather_async(layout_.bucket_view(flat_, static_cast<std::int64_t>(index)));
}

void BucketGather::wait(std::int64_t entry) {
  TORCH_CHECK(entry >= 0 && entry < static_cast<std::int64_t>(place_of_entry_.size()), "there are ",
              place_of_entry_.size(), " entries, got ", entry);
  meeting_.wait();
  const std::size_t place = place_of_entry_[at_index(entry)];
  if (place < waited_) return;
  const std::size_t end = std::min(order_.size(), std::max(place + 1, waited_ + waited_ / 4));
  for (; waited_ < end; ++waited_) running_[waited_].wait();
}

void BucketGather::finish() {
  std::exchange(meeting_, Work()).wait();
  for (Work& work : running_) std::exchange(work, Work()).wait();
  waited_ = 0;
}

}  // namespace sluice::parallel
