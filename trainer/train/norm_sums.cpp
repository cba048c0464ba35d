#include "trainer/train/norm_sums.h"

#include <ATen/ops/zeros.h>

#include <vector>

namespace sluice::train {
namespace {

std::int64_t bucket_count(const Replica& replica) {
  return static_cast<std::int64_t>(replica.layout().buckets().size());
}

/// What rank `rank` sums of buckets `first` to `end`, each slice with its place among all.
std::vector<kernels::Slice> slices_of(const Replica& replica, SquareSums sums, std::int64_t rank,
                                      std::int64_t first, std::int64_t end) {
  const std::int64_t world = replica.layout().world();
  const std::vector<optim::Range> ranges = slices_to_sum(replica.layout(), sums, rank);
  std::vector<kernels::Slice> slices;
  for (std::int64_t index = first * world; index < end * world; ++index) {
    const optim::Range& range = ranges[static_cast<std::size_t>(index)];
    if (range.numel() > 0) slices.push_back({range.begin, range.end, index});
  }
  return slices;
}

}  // namespace

NormSums::NormSums(const Replica& replica, SquareSums sums, parallel::Communicator& ranks,
                   const at::Tensor& blocks)
    : replica_(replica),
      ranks_(ranks),
      which_(sums),
      early_buckets_(static_cast<std::int64_t>(replica.layout().in_order_of_use().front())),
      early_(slices_of(replica, sums, ranks.rank(), 0, early_buckets_), blocks),
      late_(slices_of(replica, sums, ranks.rank(), early_buckets_, bucket_count(replica)), blocks),
      sums_(at::zeros({bucket_count(replica) * replica.layout().world()},
                      at::TensorOptions().dtype(at::kDouble).device(blocks.device()))) {}

void NormSums::begin() {
  if (which_ == SquareSums::kOfOwnSlices) sums_.zero_();  // the others' sums of the step before are there
  early_.run(replica_.gradients(), sums_);
}

const at::Tensor& NormSums::finish() {
  late_.run(replica_.gradients(), sums_);
  if (which_ == SquareSums::kOfOwnSlices) ranks_.all_reduce(sums_, parallel::ReduceOp::kSum);
  return sums_;
}

}  // namespace sluice::train
