// How far sums of gradients over ranks are off, by the way they are made; README has the table.
#include <cstdio>
#include <vector>

#include "parallel/ordered_reduction.h"
#include "parallel/thread_communicator.h"
#include "tests/support/rank_gradients.h"

namespace {

using namespace sluice;
using sluice::tests::rank_gradients;
using sluice::tests::relative_error;

constexpr std::int64_t kCount = 1 << 20;

at::Tensor exact_sum(std::int64_t ranks) {
  at::Tensor sum = rank_gradients(0, kCount).to(at::kDouble);
  for (std::int64_t rank = 1; rank < ranks; ++rank) sum = sum.add(rank_gradients(rank, kCount));
  return sum;
}

at::Tensor sum_by(std::int64_t ranks, parallel::Work (*start)(parallel::Communicator&, const at::Tensor&)) {
  std::vector<at::Tensor> sums(static_cast<std::size_t>(ranks));
  parallel::run_thread_ranks(ranks, [&](parallel::Communicator& communicator) {
    const at::Tensor tensor = rank_gradients(communicator.rank(), kCount);
    start(communicator, tensor).wait();
    sums[static_cast<std::size_t>(communicator.rank())] = tensor;
  });
  return sums.front();
}

/// A ring that sends bfloat16, and so rounds after every addition; its last hop adds no rounding of its own.
at::Tensor ring_of_bf16(std::int64_t ranks) {
  at::Tensor sum = rank_gradients(0, kCount).to(at::kBFloat16);
  for (std::int64_t rank = 1; rank < ranks; ++rank)
    sum = sum.to(at::kFloat).add(rank_gradients(rank, kCount).to(at::kBFloat16)).to(at::kBFloat16);
  return sum;
}

at::Tensor scattered(std::int64_t ranks) {
  at::Tensor sum = rank_gradients(0, kCount).to(at::kBFloat16).to(at::kFloat);
  for (std::int64_t rank = 1; rank < ranks; ++rank)
    sum = sum.add(rank_gradients(rank, kCount).to(at::kBFloat16));
  return sum;
}

}  // namespace

int main() {
  std::printf(
      "| ranks | float32 | bf16 wire, float32 sums | the same, not gathered (ZeRO-1) | bf16 ring |\n");
  std::printf("|---|---|---|---|---|\n");
  for (const std::int64_t ranks : {2, 4, 8}) {
    const at::Tensor exact = exact_sum(ranks);
    const at::Tensor plain =
        sum_by(ranks, [](parallel::Communicator& communicator, const at::Tensor& tensor) {
          return communicator.all_reduce_async(tensor, parallel::ReduceOp::kSum);
        });
    const at::Tensor narrow =
        sum_by(ranks, [](parallel::Communicator& communicator, const at::Tensor& tensor) {
          parallel::OrderedReduction reduction(communicator, kCount, at::kBFloat16, at::kCPU);
          return reduction.all_reduce_async(tensor);
        });
    std::printf("| %d | %.2e | %.2e | %.2e | %.2e |\n", static_cast<int>(ranks), relative_error(plain, exact),
                relative_error(narrow, exact), relative_error(scattered(ranks), exact),
                relative_error(ring_of_bf16(ranks), exact));
  }
  return 0;
}
