#include "trainer/train/norm_sums.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/support/gpu.h"
#include "tests/unit/train/support.h"
#include "trainer/train/update_slices.h"

// The squares of a step's gradients on a GPU, in the two parts in which a step forms them.
namespace sluice::train {
namespace {

TEST(NormSums, HaveTheBitsOfOnePassOverAllThatIsThere) {
  SLUICE_NEEDS_GPU();
  constexpr std::int64_t kVocabulary = 257;
  const at::Device gpu(at::kCUDA, 0);
  RunOptions run = small_run("", "x");
  run.model.seq_len = 200;  // rows of W with idle blocks
  for (const parallel::BucketPlan& plan :
       {parallel::BucketPlan{.bucket_elements = 1'000'000}, parallel::BucketPlan{.bucket_elements = 3'000},
        parallel::BucketPlan{.bucket_elements = 3'000, .world = 2},
        parallel::BucketPlan{.bucket_elements = 1}}) {
    const Replica replica(run.model, kVocabulary, placement_for("bf16", gpu), ReplicaUse::kTraining, plan);
    const at::Tensor blocks = block_updates(replica);
    const at::Tensor idle =
        blocks.eq(static_cast<int>(kernels::BlockUpdate::kNone)).repeat_interleave(kernels::kDecayBlock);
    EXPECT_GT(idle.sum().item<std::int64_t>(), 0);
    replica.gradients().normal_().masked_fill_(idle, 0);

    const auto local = parallel::make_local_communicator();
    NormSums sums(replica, SquareSums::kOfAllSlices, *local, blocks);
    const auto buckets = static_cast<std::int64_t>(replica.layout().buckets().size());
    EXPECT_EQ(replica.layout().buckets()[static_cast<std::size_t>(sums.early_buckets())].begin, 0);
    sums.begin();
    const at::Tensor in_two = sums.finish();

    std::vector<kernels::Slice> slices;
    for (std::int64_t bucket = 0; bucket < buckets; ++bucket) {
      for (std::int64_t rank = 0; rank < plan.world; ++rank) {
        const parallel::Range range = replica.layout().slice(bucket, rank);
        slices.push_back({range.begin, range.end, bucket * plan.world + rank});
      }
    }
    const at::Tensor at_once = at::zeros_like(in_two);
    kernels::SliceSums(slices, at::zeros_like(blocks)).run(replica.gradients(), at_once);
    EXPECT_TRUE(at::equal(in_two, at_once)) << buckets << " buckets";
    EXPECT_GT(in_two.min().item<double>(), 0) << buckets << " buckets";
  }
}

}  // namespace
}  // namespace sluice::train
