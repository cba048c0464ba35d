#include "parallel/bucket_gather.h"

#include <c10/util/Exception.h>

#include <utility>

namespace sluice::parallel {

BucketGather::BucketGather(const ArenaLayout& layout, const at::Tensor& flat, BucketGroups groups)
    : layout_(layout),
      flat_(flat),
      groups_(groups),
      running_(layout.buckets().size()),
      bucket_of_entry_(layout.entries().size()) {
  groups_.check(layout);
  Communicator& ranks = groups_.all();
  if (ranks.has_peer_memory() && ranks.size() == 2 && !layout.differs_by_place())
    other_ = ranks.peer_views(flat).front();
  for (std::size_t index = 0; index < layout.buckets().size(); ++index) {
    const Bucket& bucket = layout.buckets()[index];
    for (std::int64_t entry = bucket.first_entry; entry < bucket.last_entry; ++entry)
      bucket_of_entry_[static_cast<std::size_t>(entry)] = index;
  }
}

void BucketGather::start_written() { meeting_ = groups_.all().meet_async(); }

void BucketGather::start() {
  for (std::size_t index = running_.size(); index-- > 0;) start_bucket(index);
}

void BucketGather::start(Holders holders) {
  for (std::size_t index = running_.size(); index-- > 0;)
    if (layout_.buckets()[index].holders == holders) start_bucket(index);
}

void BucketGather::start_first() { start_bucket(running_.size() - 1); }

void BucketGather::start_but_first() {
  for (std::size_t index = running_.size() - 1; index-- > 0;) start_bucket(index);
}

void BucketGather::start_bucket(std::size_t index) {
  Communicator& group = groups_.of(layout_.buckets()[index].holders);
  running_[index] = group.all_gather_async(layout_.bucket_view(flat_, static_cast<std::int64_t>(index)));
}

void BucketGather::wait(std::int64_t entry) {
  TORCH_CHECK(entry >= 0 && entry < static_cast<std::int64_t>(bucket_of_entry_.size()), "there are ",
              bucket_of_entry_.size(), " entries, got ", entry);
  meeting_.wait();
  running_[bucket_of_entry_[static_cast<std::size_t>(entry)]].wait();
}

void BucketGather::finish() {
  std::exchange(meeting_, Work()).wait();
  for (Work& work : running_) std::exchange(work, Work()).wait();
}

}  // namespace sluice::parallel
