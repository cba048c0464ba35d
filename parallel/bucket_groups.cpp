#include "parallel/bucket_groups.h"

#include <c10/util/Exception.h>

namespace sluice::parallel {

void BucketGroups::check(const ArenaLayout& layout) const {
  for (const Bucket& bucket : layout.buckets())
    TORCH_CHECK(layout.count(bucket.holders) == of(bucket.holders).size(), "the arena has slices for ",
                layout.count(bucket.holders), " ranks, the communicator has ", of(bucket.holders).size());
}

}  // namespace sluice::parallel
