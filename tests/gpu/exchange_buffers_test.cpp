#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <vector>

#include "parallel/nccl_communicator.h"
#include "parallel/ordered_reduction.h"
#include "tests/support/gpu.h"
#include "tests/support/gpu_paths.h"
#include "tests/support/gpu_ranks.h"
#include "tests/support/mpi_world.h"
#include "tests/support/rank_gradients.h"

// Exchange buffers, and what is exchanged in an order of our own.
namespace sluice::tests {
namespace {

using parallel::Communicator;
using parallel::Work;

class ExchangeBuffers : public OnBothPaths {};

/// The same bits as on CPU ranks, whatever travels and whoever moves it: exchange buffers (by copy engines,
/// where the group has them) and other memory.
TEST_P(ExchangeBuffers, OrderedReductionIsThatOfCpuRanks) {
  SLUICE_NEEDS_GPU();
  Communicator& ranks = gpu_world();
  constexpr std::int64_t kCount = 4 * 30000;
  const at::Tensor own = rank_gradients(ranks.rank(), kCount);
  const at::Tensor source = own.to(gpu_of_rank());
  for (const at::ScalarType wire : {at::kFloat, at::kBFloat16}) {
    SCOPED_TRACE(wire);
    parallel::OrderedReduction on_device(ranks, kCount, wire, gpu_of_rank());
    parallel::OrderedReduction on_host(mpi_world(), kCount, wire, at::kCPU);
    const at::Tensor whole = own.clone(), part = own.clone();
    on_host.all_reduce_async(whole).wait();
    on_host.reduce_scatter_async(part).wait();
    const std::vector<at::Tensor> tensors = {ranks.exchange_buffer(kCount, at::kFloat, gpu_of_rank()),
                                             on_gpu(kCount, at::kFloat),
                                             ranks.exchange_buffer(kCount, at::kFloat, gpu_of_rank())};
    run_on_gpu(
        GetParam(),
        [&] {
          for (const at::Tensor& tensor : tensors) tensor.copy_(source);
        },
        [&] {
          std::vector<Work> works;
          works.push_back(on_device.all_reduce_async(tensors[0]));
          works.push_back(on_device.all_reduce_async(tensors[1]));
          works.push_back(on_device.reduce_scatter_async(tensors[2]));
          for (Work& work : works) work.wait();
        });
    EXPECT_TRUE(tensors[0].cpu().equal(whole));
    EXPECT_TRUE(tensors[1].cpu().equal(whole));
    const std::int64_t chunk = kCount / ranks.size();
    const auto chunk_of = [&](const at::Tensor& tensor) {
      return tensor.cpu().narrow(0, ranks.rank() * chunk, chunk);
    };
    EXPECT_TRUE(chunk_of(tensors[2]).equal(chunk_of(part)));
  }
}

/// Again and again over the same buffers, views of them too, without a pause for the host: a rank that is
/// ahead waits for those behind.
TEST_P(ExchangeBuffers, AreGatheredAndDealt) {
  SLUICE_NEEDS_GPU();
  Communicator& ranks = gpu_world();
  constexpr std::int64_t kChunk = 50000, kRounds = 20;
  const std::int64_t size = ranks.size();
  const auto buffer = [&](std::int64_t elements) {
    return ranks.exchange_buffer(elements, at::kFloat, gpu_of_rank());
  };
  const at::Tensor all = buffer(3 * size * kChunk).narrow(0, size * kChunk, size * kChunk);
  const at::Tensor dealt = buffer(size * kChunk);
  const at::Tensor own = all.narrow(0, ranks.rank() * kChunk, kChunk);
  run_on_gpu(
      GetParam(), [&] { all.fill_(static_cast<double>(ranks.rank())); },
      [&] {
        for (std::int64_t round = 0; round < kRounds; ++round) {
          ranks.all_gather_async(all).wait();
          ranks.all_to_all_async(all, dealt).wait();
          own.copy_(dealt.narrow(0, ranks.rank() * kChunk, kChunk)).add_(1);
        }
      });
  for (std::int64_t rank = 0; rank < size; ++rank) {
    EXPECT_TRUE(dealt.narrow(0, rank * kChunk, kChunk).eq(ranks.rank() + kRounds - 1).all().item<bool>())
        << "from rank " << rank << (ranks.has_copy_engines() ? ", copy engines" : ", kernels");
  }
}

/// What ranks write to one another's exchange buffers, and views of them, is there after a meeting: again and
/// again, without a pause for the host.
TEST_P(ExchangeBuffers, AreWrittenByOtherRanks) {
  SLUICE_NEEDS_GPU();
  const auto ranks =
      parallel::make_nccl_communicator(mpi_world(), gpu_of_rank(), {.movers = parallel::Movers::kPeerMemory});
  if (!ranks->has_peer_memory()) GTEST_SKIP() << "these ranks' GPUs do not reach one another's memory";
  constexpr std::int64_t kCount = 100'003, kRounds = 20;
  const at::Tensor inbox = ranks->exchange_buffer((ranks->size() + 1) * kCount, at::kFloat, gpu_of_rank())
                               .narrow(0, 5, ranks->size() * kCount);
  const at::Tensor own = on_gpu(kCount, at::kFloat);
  const auto of = [&](const at::Tensor& box, std::int64_t rank) {
    return box.narrow(0, rank * kCount, kCount);
  };
  EXPECT_THROW((void)ranks->peer_views(own), c10::Error);
  const auto others = ranks->peer_views(inbox);
  run_on_gpu(
      GetParam(), [&] { own.fill_(static_cast<double>(ranks->rank())); },
      [&] {
        for (std::int64_t round = 0; round < kRounds; ++round) {
          for (const at::Tensor& other : others) of(other, ranks->rank()).copy_(own, /*non_blocking=*/true);
          ranks->meet_async().wait();
          own.copy_(of(inbox, (ranks->rank() + 1) % ranks->size())).add_(1);
          ranks->meet_async().wait();  // all have read
        }
      });
  for (std::int64_t rank = 0; rank < ranks->size(); ++rank) {
    if (rank == ranks->rank()) continue;
    const std::int64_t first = (rank + kRounds - 1) % ranks->size();
    EXPECT_TRUE(of(inbox, rank).eq(first + kRounds - 1).all().item<bool>()) << "from rank " << rank;
  }
}

/// In pieces, of lengths that end anywhere, and of more ways than one at once in flight.
TEST_P(ExchangeBuffers, GoThroughTheHost) {
  SLUICE_NEEDS_GPU();
  const auto ranks =
      parallel::make_nccl_communicator(mpi_world(), gpu_of_rank(), {.movers = parallel::Movers::kHostMemory});
  if (!ranks->has_host_memory()) GTEST_SKIP() << "these ranks are of several hosts";
  const std::int64_t size = ranks->size();
  constexpr std::int64_t kRounds = 5;
  for (const std::int64_t chunk : {std::int64_t{1}, std::int64_t{70'001}, std::int64_t{5'000'011}}) {
    SCOPED_TRACE(chunk);
    const at::Tensor all = on_gpu(size * chunk, at::kFloat), box = on_gpu(size * (chunk + 3), at::kFloat);
    const at::Tensor sum = on_gpu(chunk, at::kFloat);
    const at::Tensor own = all.narrow(0, ranks->rank() * chunk, chunk);
    std::vector<at::Tensor> places;
    for (std::int64_t from = 0; from < size; ++from)
      places.push_back(box.narrow(0, from * (chunk + 3) + 1, chunk));
    run_on_gpu(
        GetParam(),
        [&] {
          own.fill_(static_cast<double>(ranks->rank()));
          box.fill_(-1);
        },
        [&] {
          for (std::int64_t round = 0; round < kRounds; ++round) {
            sum.copy_(own);
            Work gathered = ranks->all_gather_async(all);
            Work summed = ranks->all_reduce_async(sum, parallel::ReduceOp::kSum);
            gathered.wait();
            summed.wait();
            ranks->deal_async(all, places).wait();
            own.add_(1);
          }
        });
    const double last = kRounds - 1;
    const auto ranks_d = static_cast<double>(size);
    EXPECT_TRUE(sum.eq(ranks_d * (ranks_d - 1) / 2 + ranks_d * last).all().item<bool>());
    for (std::int64_t from = 0; from < size; ++from) {
      const double dealt = from == ranks->rank() ? -1 : static_cast<double>(ranks->rank()) + last;
      EXPECT_TRUE(places[static_cast<std::size_t>(from)].eq(dealt).all().item<bool>())
          << "from rank " << from;
      EXPECT_EQ(box[from * (chunk + 3)].item<double>(), -1);
      EXPECT_EQ(box[from * (chunk + 3) + chunk + 1].item<double>(), -1);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Paths, ExchangeBuffers, testing::Values(Path::kDirect, Path::kGraph), path_name);

}  // namespace
}  // namespace sluice::tests
