#include "parallel/null_communicator.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <vector>

#include "parallel/thread_communicator.h"

namespace sluice::parallel {
namespace {

/// Ranks that exchange with nobody go on without the others: rank 0 alone calls, and is not held up.
TEST(NullCommunicator, CopiesWhatOthersWouldSend) {
  run_thread_ranks(2, [](Communicator& world) {
    const auto nobody = make_null_communicator(world, at::kCPU);
    EXPECT_EQ(nobody->size(), 2);
    EXPECT_EQ(nobody->rank(), world.rank());
    if (world.rank() == 0) {
      const at::Tensor gathered = at::zeros({6});
      gathered.narrow(0, 0, 3).fill_(7);
      nobody->all_gather_async(gathered).wait();
      EXPECT_TRUE(gathered.eq(7).all().item<bool>());
      const at::Tensor summed = at::full({6}, 2.0);
      nobody->reduce_scatter_async(summed).wait();
      EXPECT_TRUE(summed.narrow(0, 0, 3).eq(4).all().item<bool>());
      const at::Tensor send = at::arange(6).to(at::kFloat);
      const at::Tensor received = at::full({6}, -1.0);
      nobody->all_to_all_async(send, received).wait();
      EXPECT_TRUE(received.equal(send));
      nobody->all_reduce(send, ReduceOp::kSum);
      EXPECT_TRUE(received.equal(send));
    }
    world.barrier();
  });
}

TEST(NullCommunicator, AMessageOfAnotherLengthIsFilledUp) {
  const at::Tensor received = at::full({2, 2}, -1.0);
  const at::Tensor send = at::full({3}, 5.0);
  run_thread_ranks(2, [&](Communicator& world) {
    if (world.rank() == 1) return;
    make_null_communicator(world, at::kCPU)->exchange_async(send, 1, received, 1).wait();
  });
  EXPECT_TRUE(received.view({-1}).narrow(0, 0, 3).equal(send));
  EXPECT_EQ(received.view({-1})[3].item<float>(), 0);
}

TEST(NullCommunicator, BytesAndPartsAreTheHosts) {
  run_thread_ranks(4, [](Communicator& world) {
    const auto nobody = make_null_communicator(world, at::kCPU);
    EXPECT_EQ(nobody->broadcast(world.rank() == 2 ? "it" : "", 2), "it");
    const auto part = nobody->split(world.rank() / 2);
    EXPECT_EQ(part->size(), 2);
    EXPECT_EQ(part->name(), "null");
    EXPECT_EQ(part->all_gather(std::to_string(world.rank())).front(), std::to_string(world.rank() / 2 * 2));
  });
}

}  // namespace
}  // namespace sluice::parallel
