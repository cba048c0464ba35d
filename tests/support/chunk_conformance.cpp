#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "tests/support/communicator_conformance.h"
#include "tests/support/rank_values.h"

// The collectives that cut a tensor into a chunk for each rank.

namespace sluice::tests {
namespace {

using parallel::Communicator;
using parallel::ReduceOp;
using parallel::Work;

constexpr std::int64_t kChunkSizes[] = {0, 1, 2, 33, 512, 1025, 40961};

template <typename T>
void reduce_scatters_type(Communicator& ranks, at::ScalarType type) {
  for (const std::int64_t chunk : kChunkSizes) {
    const at::Tensor scattered = at::empty({chunk * ranks.size()}, type);
    const at::Tensor reduced = at::empty({chunk * ranks.size()}, type);
    fill<T>(scattered, ranks.rank());
    fill<T>(reduced, ranks.rank());
    ranks.reduce_scatter_async(scattered).wait();
    ranks.all_reduce(reduced, ReduceOp::kSum);
    EXPECT_TRUE(is_folded<T>(reduced, ranks.size(), ReduceOp::kSum));
    const auto bytes = static_cast<std::size_t>(chunk) * sizeof(T);
    if (bytes == 0) continue;
    const std::int64_t own = ranks.rank() * chunk;
    EXPECT_EQ(std::memcmp(scattered.const_data_ptr<T>() + own, reduced.const_data_ptr<T>() + own, bytes), 0)
        << type << " chunk of " << chunk;
  }
}

void reduce_scatter_has_the_bits_of_all_reduce(Communicator& ranks) {
  reduce_scatters_type<float>(ranks, at::kFloat);
  reduce_scatters_type<double>(ranks, at::kDouble);
  reduce_scatters_type<std::int64_t>(ranks, at::kLong);
  reduce_scatters_type<std::int32_t>(ranks, at::kInt);
}

/// A byte that tells who sent it to whom, and where in the chunk it lies.
unsigned char stamp(std::int64_t from, std::int64_t to, std::size_t at) {
  return static_cast<unsigned char>(from * 71 + to * 13 + static_cast<std::int64_t>(at % 251));
}

void stamp_chunk(const at::Tensor& tensor, std::int64_t ranks, std::int64_t chunk, std::int64_t from,
                 std::int64_t to) {
  const std::size_t bytes = tensor.nbytes() / static_cast<std::size_t>(ranks);
  auto* data = static_cast<unsigned char*>(tensor.data_ptr()) + bytes * static_cast<std::size_t>(chunk);
  for (std::size_t at = 0; at < bytes; ++at) data[at] = stamp(from, to, at);
}

bool has_stamp(const at::Tensor& tensor, std::int64_t ranks, std::int64_t chunk, std::int64_t from,
               std::int64_t to) {
  const std::size_t bytes = tensor.nbytes() / static_cast<std::size_t>(ranks);
  const auto* data =
      static_cast<const unsigned char*>(tensor.const_data_ptr()) + bytes * static_cast<std::size_t>(chunk);
  for (std::size_t at = 0; at < bytes; ++at)
    if (data[at] != stamp(from, to, at)) return false;
  return true;
}

void all_gather_fills_every_chunk(Communicator& ranks) {
  for (const auto type : {at::kFloat, at::kBFloat16, at::kByte, at::kLong}) {
    for (const std::int64_t chunk : kChunkSizes) {
      const at::Tensor tensor = at::zeros({ranks.size() * chunk}, type);
      stamp_chunk(tensor, ranks.size(), ranks.rank(), ranks.rank(), 7);
      ranks.all_gather_async(tensor).wait();
      for (std::int64_t from = 0; from < ranks.size(); ++from)
        EXPECT_TRUE(has_stamp(tensor, ranks.size(), from, from, 7)) << type << " chunk of " << chunk;
    }
  }
}

void all_to_all_transposes_chunks(Communicator& ranks) {
  for (const auto type : {at::kFloat, at::kBFloat16, at::kByte, at::kLong}) {
    for (const std::int64_t chunk : kChunkSizes) {
      const at::Tensor send = at::zeros({ranks.size() * chunk}, type);
      const at::Tensor receive = at::zeros({ranks.size() * chunk}, type);
      for (std::int64_t to = 0; to < ranks.size(); ++to)
        stamp_chunk(send, ranks.size(), to, ranks.rank(), to);
      ranks.all_to_all_async(send, receive).wait();
      for (std::int64_t from = 0; from < ranks.size(); ++from)
        EXPECT_TRUE(has_stamp(receive, ranks.size(), from, from, ranks.rank()))
            << type << " chunk of " << chunk << " from " << from;
    }
  }
}

/// All kinds at once, waited for in another order on each rank.
void chunk_operations_overlap(Communicator& ranks) {
  constexpr std::int64_t kChunk = 30011;
  const auto make = [&] {
    const at::Tensor tensor = at::empty({kChunk * ranks.size()}, at::kFloat);
    fill<float>(tensor, ranks.rank());
    return tensor;
  };
  const at::Tensor reduced = make(), scattered = make(), gathered = make(), sent = make(), received = make();
  stamp_chunk(gathered, ranks.size(), ranks.rank(), ranks.rank(), 7);
  for (std::int64_t to = 0; to < ranks.size(); ++to) stamp_chunk(sent, ranks.size(), to, ranks.rank(), to);
  std::vector<Work> works;
  works.push_back(ranks.reduce_scatter_async(scattered));
  works.push_back(ranks.all_to_all_async(sent, received));
  works.push_back(ranks.all_reduce_async(reduced, ReduceOp::kSum));
  works.push_back(ranks.all_gather_async(gathered));
  for (std::size_t i = 0; i < works.size(); ++i)
    works[(i + static_cast<std::size_t>(ranks.rank())) % works.size()].wait();
  EXPECT_TRUE(is_folded<float>(reduced, ranks.size(), ReduceOp::kSum));
  const at::Tensor own = scattered.narrow(0, ranks.rank() * kChunk, kChunk);
  EXPECT_TRUE(own.equal(reduced.narrow(0, ranks.rank() * kChunk, kChunk)));
  for (std::int64_t from = 0; from < ranks.size(); ++from) {
    EXPECT_TRUE(has_stamp(gathered, ranks.size(), from, from, 7));
    EXPECT_TRUE(has_stamp(received, ranks.size(), from, from, ranks.rank()));
  }
}

}  // namespace

const std::vector<ConformanceCase>& chunk_conformance_cases() {
  static const std::vector<ConformanceCase> cases = {
      {"ReduceScatterHasTheBitsOfAllReduce", reduce_scatter_has_the_bits_of_all_reduce},
      {"AllGatherFillsEveryChunk", all_gather_fills_every_chunk},
      {"AllToAllTransposesChunks", all_to_all_transposes_chunks},
      {"ChunkOperationsOverlap", chunk_operations_overlap},
  };
  return cases;
}

}  // namespace sluice::tests
