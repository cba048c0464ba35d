#include "parallel/nccl_communicator.h"

#include <ATen/cuda/Sleep.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/support/communicator_conformance.h"
#include "tests/support/gpu.h"
#include "tests/support/gpu_paths.h"
#include "tests/support/gpu_ranks.h"
#include "tests/support/mpi_world.h"

namespace sluice::tests {
namespace {

using parallel::Communicator;
using parallel::NcclCalls;
using parallel::ReduceOp;
using parallel::Work;

constexpr at::ScalarType kTypes[] = {at::kFloat, at::kDouble, at::kBFloat16, at::kLong, at::kInt};
constexpr ReduceOp kOps[] = {ReduceOp::kSum, ReduceOp::kMin, ReduceOp::kMax};
constexpr std::int64_t kChunks[] = {0, 1, 3, 1025, 100003};

/// What rank `rank` puts in, on the CPU: sums of these round in every float type.
at::Tensor input_of(std::int64_t rank, at::ScalarType type, std::int64_t count) {
  const at::Tensor values = at::empty({count}, at::kDouble);
  auto* data = values.mutable_data_ptr<double>();
  const double scale = at::isIntegralType(type, /*includeBool=*/false) ? 1.0 : 0.1;
  for (std::int64_t i = 0; i < count; ++i)
    data[i] = scale * static_cast<double>(((i + 1) * 2654435761 + rank * 40503 * 65537) % 20011 - 10005);
  return values.to(type);
}

/// A loop over ranks, in double.
at::Tensor reduced(std::int64_t ranks, at::ScalarType type, std::int64_t count, ReduceOp op) {
  at::Tensor result = input_of(0, type, count).to(at::kDouble);
  for (std::int64_t rank = 1; rank < ranks; ++rank) {
    const at::Tensor next = input_of(rank, type, count).to(at::kDouble);
    if (op == ReduceOp::kSum) result = result.add(next);
    if (op == ReduceOp::kMin) result = at::minimum(result, next);
    if (op == ReduceOp::kMax) result = at::maximum(result, next);
  }
  return result;
}

/// How far a sum over ranks may be off: each of its additions rounds once, at the size of what was added.
double tolerance(at::ScalarType type, std::int64_t ranks, ReduceOp op) {
  if (op != ReduceOp::kSum || at::isIntegralType(type, false)) return 0.0;
  const double unit = type == at::kFloat ? 6e-8 : type == at::kDouble ? 1.2e-16 : 4e-3;
  return unit * 1000.5 * static_cast<double>(ranks * ranks);
}

void expect_near(const at::Tensor& got, const at::Tensor& expected, double allowed, const char* what) {
  const at::Tensor difference = got.cpu().to(at::kDouble).sub(expected).abs();
  if (difference.numel() == 0) return;
  EXPECT_LE(difference.max().item<double>(), allowed) << what << " " << got.scalar_type() << got.sizes();
}

class Nccl : public OnBothPaths {};

TEST_P(Nccl, AllReduceIsALoopOverRanks) {
  SLUICE_NEEDS_GPU();
  Communicator& ranks = gpu_world();
  for (const auto type : kTypes) {
    for (const ReduceOp op : kOps) {
      if (op != ReduceOp::kSum && type != at::kFloat && type != at::kLong) continue;
      for (const std::int64_t count : {1, 300007}) {
        const at::Tensor own = input_of(ranks.rank(), type, count).to(gpu_of_rank());
        const at::Tensor tensor = on_gpu(count, type);
        run_on_gpu(
            GetParam(), [&] { tensor.copy_(own); }, [&] { ranks.all_reduce(tensor, op); });
        expect_near(tensor, reduced(ranks.size(), type, count, op), tolerance(type, ranks.size(), op),
                    "all_reduce");
      }
    }
  }
}

TEST_P(Nccl, ReduceScatterSumsTheOwnChunk) {
  SLUICE_NEEDS_GPU();
  Communicator& ranks = gpu_world();
  for (const auto type : kTypes) {
    for (const std::int64_t chunk : kChunks) {
      const std::int64_t count = chunk * ranks.size();
      const at::Tensor own = input_of(ranks.rank(), type, count).to(gpu_of_rank());
      const at::Tensor tensor = on_gpu(count, type);
      run_on_gpu(
          GetParam(), [&] { tensor.copy_(own); }, [&] { ranks.reduce_scatter_async(tensor).wait(); });
      expect_near(tensor.narrow(0, ranks.rank() * chunk, chunk),
                  reduced(ranks.size(), type, count, ReduceOp::kSum).narrow(0, ranks.rank() * chunk, chunk),
                  tolerance(type, ranks.size(), ReduceOp::kSum), "reduce_scatter");
    }
  }
}

TEST_P(Nccl, AllGatherFillsEveryChunk) {
  SLUICE_NEEDS_GPU();
  Communicator& ranks = gpu_world();
  for (const auto type : {at::kFloat, at::kBFloat16, at::kByte}) {
    for (const std::int64_t chunk : kChunks) {
      const at::Tensor tensor = on_gpu(chunk * ranks.size(), type);
      run_on_gpu(
          GetParam(),
          [&] {
            tensor.zero_();
            tensor.narrow(0, ranks.rank() * chunk, chunk).fill_(1 + ranks.rank());
          },
          [&] { ranks.all_gather_async(tensor).wait(); });
      for (std::int64_t rank = 0; rank < ranks.size(); ++rank)
        EXPECT_TRUE(tensor.narrow(0, rank * chunk, chunk).eq(1 + rank).all().item<bool>()) << type << chunk;
    }
  }
}

TEST_P(Nccl, AllToAllTransposesChunks) {
  SLUICE_NEEDS_GPU();
  Communicator& ranks = gpu_world();
  for (const auto type : {at::kFloat, at::kBFloat16, at::kByte}) {
    for (const std::int64_t chunk : kChunks) {
      const at::Tensor send = on_gpu(chunk * ranks.size(), type);
      const at::Tensor receive = on_gpu(chunk * ranks.size(), type);
      run_on_gpu(
          GetParam(),
          [&] {
            receive.zero_();
            for (std::int64_t to = 0; to < ranks.size(); ++to)
              send.narrow(0, to * chunk, chunk).fill_(10 * ranks.rank() + to);
          },
          [&] { ranks.all_to_all_async(send, receive).wait(); });
      for (std::int64_t from = 0; from < ranks.size(); ++from)
        EXPECT_TRUE(receive.narrow(0, from * chunk, chunk).eq(10 * from + ranks.rank()).all().item<bool>())
            << type << chunk;
    }
  }
}

/// Round the ring, either way; each message as long as its sender says, also empty.
TEST_P(Nccl, ExchangePassesMessagesOfAnyLength) {
  SLUICE_NEEDS_GPU();
  Communicator& ranks = gpu_world();
  for (const std::int64_t chunk : kChunks) {
    for (const std::int64_t way : {std::int64_t{1}, ranks.size() - 1}) {
      const std::int64_t to = (ranks.rank() + way) % ranks.size();
      const std::int64_t from = (ranks.rank() + ranks.size() - way) % ranks.size();
      const at::Tensor send = on_gpu(chunk * ranks.rank(), at::kBFloat16);
      const at::Tensor receive = on_gpu(chunk * from, at::kBFloat16);
      const at::Tensor after = on_gpu(chunk * from, at::kBFloat16);
      run_on_gpu(
          GetParam(),
          [&] {
            send.zero_();
            receive.zero_();
            after.zero_();
          },
          [&] {
            at::cuda::sleep(1'000'000);
            send.fill_(1 + ranks.rank());
            Work work = ranks.exchange_async(send, to, receive, from);
            work.wait();
            after.copy_(receive);
          });
      EXPECT_TRUE(after.eq(1 + from).all().item<bool>()) << chunk << " from " << from;
    }
  }
}

/// A part of the ranks exchanges among itself while all do.
TEST_P(Nccl, APartHasAGroupOfItsOwn) {
  SLUICE_NEEDS_GPU();
  Communicator& ranks = gpu_world();
  const auto part = parallel::make_nccl_communicator(mpi_world().split(ranks.rank() / 2), gpu_of_rank());
  const at::Tensor own = on_gpu(100003, at::kFloat);
  const at::Tensor all = on_gpu(100003, at::kFloat);
  run_on_gpu(
      GetParam(),
      [&] {
        own.fill_(1);
        all.fill_(1);
      },
      [&] {
        Work of_all = ranks.all_reduce_async(all, ReduceOp::kSum);
        Work of_part = part->all_reduce_async(own, ReduceOp::kSum);
        of_part.wait();
        of_all.wait();
      });
  EXPECT_TRUE(own.eq(part->size()).all().item<bool>());
  EXPECT_TRUE(all.eq(ranks.size()).all().item<bool>());
}

TEST_P(Nccl, BroadcastFromEachRoot) {
  SLUICE_NEEDS_GPU();
  Communicator& ranks = gpu_world();
  const at::Tensor tensor = on_gpu(1025, at::kBFloat16);
  for (std::int64_t root = 0; root < ranks.size(); ++root) {
    run_on_gpu(
        GetParam(), [&] { tensor.fill_(3 + ranks.rank()); }, [&] { ranks.broadcast(tensor, root); });
    EXPECT_TRUE(tensor.eq(3 + root).all().item<bool>()) << root;
  }
}

/// The exchange follows what the stream held before it, and what comes after the wait follows the exchange:
/// a wrong order would read stale values, since the GPU sleeps first.
TEST_P(Nccl, IsOrderedWithTheStreamAround) {
  SLUICE_NEEDS_GPU();
  Communicator& ranks = gpu_world();
  const at::Tensor tensor = on_gpu(1 << 20, at::kFloat);
  const at::Tensor other = on_gpu(1 << 20, at::kFloat);
  const at::Tensor after = at::zeros_like(tensor);
  run_on_gpu(
      GetParam(),
      [&] {
        tensor.zero_();
        other.zero_();
        after.zero_();
      },
      [&] {
        at::cuda::sleep(20'000'000);
        tensor.fill_(1);
        Work first = ranks.all_reduce_async(tensor, ReduceOp::kSum);
        other.fill_(2);
        Work second = ranks.all_reduce_async(other, ReduceOp::kSum);
        EXPECT_TRUE(first.test());  // says nothing about the GPU, and must not keep it from waiting
        second.wait();
        first.wait();
        after.copy_(tensor.add(other));
      });
  EXPECT_TRUE(after.eq(3 * ranks.size()).all().item<bool>());
}

INSTANTIATE_TEST_SUITE_P(Paths, Nccl, testing::Values(Path::kDirect, Path::kGraph), path_name);

class NcclHost : public testing::TestWithParam<ConformanceCase> {};

/// CPU tensors, bytes and the contract: as the group that it was made from.
TEST_P(NcclHost, Holds) {
  SLUICE_NEEDS_GPU();
  GetParam().run(gpu_world());
}

INSTANTIATE_TEST_SUITE_P(World, NcclHost, testing::ValuesIn(conformance_cases()),
                         [](const auto& one) { return one.param.name; });

TEST(NcclCommunicator, SharesTheTraceOfItsHost) {
  SLUICE_NEEDS_GPU();
  Communicator& ranks = gpu_world();
  const auto blocking = ranks.blocking("step 12");
  ASSERT_TRUE(ranks.pending().has_value());
  ASSERT_TRUE(mpi_world().pending().has_value());
  EXPECT_EQ(mpi_world().pending()->name, "step 12");
  EXPECT_NO_THROW(ranks.check());
  EXPECT_EQ(ranks.place().local_rank, mpi_world().place().local_rank);
}

TEST(NcclCommunicator, RefusesWhatItDoesNotExchange) {
  SLUICE_NEEDS_GPU();
  Communicator& ranks = gpu_world();
  const auto half = at::zeros({ranks.size()}, at::TensorOptions().dtype(at::kHalf).device(gpu_of_rank()));
  EXPECT_THROW(ranks.all_reduce(half, ReduceOp::kSum), c10::Error);
  EXPECT_THROW((void)parallel::make_nccl_communicator(mpi_world(), at::kCPU), c10::Error);
}

/// A second group beside the first, with blocking calls, and another one after it: ends are clean.
TEST(NcclCommunicator, GroupsComeAndGo) {
  SLUICE_NEEDS_GPU();
  for (const NcclCalls calls : {NcclCalls::kBlocking, NcclCalls::kPolled}) {
    const auto ranks = parallel::make_nccl_communicator(mpi_world(), gpu_of_rank(), {.calls = calls});
    const at::Tensor tensor =
        at::full({4096}, 1.0, at::TensorOptions().dtype(at::kFloat).device(gpu_of_rank()));
    const at::Tensor captured = at::zeros_like(tensor);
    run_on_gpu(
        Path::kGraph, [&] { captured.fill_(1); }, [&] { ranks->all_reduce(captured, ReduceOp::kSum); });
    ranks->all_reduce(tensor, ReduceOp::kSum);
    EXPECT_TRUE(tensor.eq(ranks->size()).all().item<bool>());
    EXPECT_TRUE(captured.eq(ranks->size()).all().item<bool>());
  }
}

}  // namespace
}  // namespace sluice::tests
