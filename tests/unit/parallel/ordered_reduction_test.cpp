#include "parallel/ordered_reduction.h"

#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <vector>

#include "parallel/replica_check.h"
#include "parallel/thread_communicator.h"
#include "tests/support/rank_gradients.h"

namespace sluice::parallel {
namespace {

constexpr std::int64_t kCount = 8 * 5000;

/// A plain loop: rounded once by each rank, added in float32 in rank order.
at::Tensor sum_of_rounded(std::int64_t ranks) {
  at::Tensor sum = tests::rank_gradients(0, kCount).to(at::kBFloat16).to(at::kFloat);
  for (std::int64_t rank = 1; rank < ranks; ++rank)
    sum = sum.add(tests::rank_gradients(rank, kCount).to(at::kBFloat16).to(at::kFloat));
  return sum;
}

class OrderedRanks : public testing::TestWithParam<std::int64_t> {};

TEST_P(OrderedRanks, AllReduceIsALoopOverRoundedValues) {
  run_thread_ranks(GetParam(), [](Communicator& ranks) {
    OrderedReduction reduction(ranks, kCount, at::kBFloat16, at::kCPU);
    const at::Tensor tensor = tests::rank_gradients(ranks.rank(), kCount);
    reduction.all_reduce_async(tensor).wait();
    EXPECT_TRUE(tensor.equal(sum_of_rounded(ranks.size()).to(at::kBFloat16).to(at::kFloat)));
    EXPECT_NO_THROW(check_replicas(ranks, tensor, "sums"));
  });
}

TEST_P(OrderedRanks, ReduceScatterKeepsTheSumInFloat) {
  run_thread_ranks(GetParam(), [](Communicator& ranks) {
    OrderedReduction reduction(ranks, kCount, at::kBFloat16, at::kCPU);
    const at::Tensor tensor = tests::rank_gradients(ranks.rank(), kCount);
    reduction.reduce_scatter_async(tensor).wait();
    const std::int64_t chunk = kCount / ranks.size();
    EXPECT_TRUE(tensor.narrow(0, ranks.rank() * chunk, chunk)
                    .equal(sum_of_rounded(ranks.size()).narrow(0, ranks.rank() * chunk, chunk)));
  });
}

TEST_P(OrderedRanks, SeveralMayBeUnderWay) {
  run_thread_ranks(GetParam(), [](Communicator& ranks) {
    OrderedReduction reduction(ranks, kCount, at::kBFloat16, at::kCPU);
    std::vector<at::Tensor> tensors;
    std::vector<Work> works;
    for (int i = 0; i < 5; ++i) {
      tensors.push_back(tests::rank_gradients(ranks.rank(), kCount));
      works.push_back(reduction.all_reduce_async(tensors.back()));
    }
    for (Work& work : works) work.wait();
    for (const at::Tensor& tensor : tensors) EXPECT_TRUE(tensor.equal(tensors.front()));
  });
}

/// The bits of the communicator's own sums, which fold in the same order.
TEST_P(OrderedRanks, InFloatItIsTheAllReduceOfCpuRanks) {
  run_thread_ranks(GetParam(), [](Communicator& ranks) {
    OrderedReduction reduction(ranks, kCount, at::kFloat, at::kCPU);
    const at::Tensor own = tests::rank_gradients(ranks.rank(), kCount);
    const at::Tensor sums = own.clone();
    ranks.all_reduce(sums, ReduceOp::kSum);
    const at::Tensor everywhere = own.clone();
    reduction.all_reduce_async(everywhere).wait();
    EXPECT_TRUE(everywhere.equal(sums));
    const at::Tensor scattered = own.clone();
    reduction.reduce_scatter_async(scattered).wait();
    const std::int64_t chunk = kCount / ranks.size();
    EXPECT_TRUE(
        scattered.narrow(0, ranks.rank() * chunk, chunk).equal(sums.narrow(0, ranks.rank() * chunk, chunk)));
  });
}

INSTANTIATE_TEST_SUITE_P(Threads, OrderedRanks, testing::Values(2, 4, 8));

TEST(OrderedReduction, AGroupOfOneChangesNothing) {
  const auto alone = make_local_communicator();
  OrderedReduction reduction(*alone, kCount, at::kBFloat16, at::kCPU);
  const at::Tensor tensor = tests::rank_gradients(0, kCount);
  reduction.all_reduce_async(tensor).wait();
  EXPECT_TRUE(tensor.equal(tests::rank_gradients(0, kCount)));
}

TEST(OrderedReduction, RefusesWhatDoesNotFit) {
  run_thread_ranks(2, [](Communicator& ranks) {
    OrderedReduction reduction(ranks, 8, at::kBFloat16, at::kCPU);
    EXPECT_THROW((void)reduction.all_reduce_async(at::zeros({10}, at::kFloat)), c10::Error);
    EXPECT_THROW((void)reduction.all_reduce_async(at::zeros({7}, at::kFloat)), c10::Error);
    EXPECT_THROW((void)reduction.all_reduce_async(at::zeros({8}, at::kDouble)), c10::Error);
    EXPECT_THROW(OrderedReduction(ranks, 8, at::kDouble, at::kCPU), c10::Error);
  });
}

}  // namespace
}  // namespace sluice::parallel
