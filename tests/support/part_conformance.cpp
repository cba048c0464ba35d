#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <vector>

#include "parallel/mesh.h"
#include "tests/support/communicator_conformance.h"

// Messages between two ranks, and groups within a group.

namespace sluice::tests {
namespace {

using parallel::Communicator;
using parallel::ReduceOp;

void a_ring_passes_messages_of_any_length(Communicator& ranks) {
  const std::int64_t next = (ranks.rank() + 1) % ranks.size();
  const std::int64_t before = (ranks.rank() + ranks.size() - 1) % ranks.size();
  for (const std::int64_t length : {0, 1, 3000}) {
    // Rank r sends r * length elements: rank 0 nothing.
    const at::Tensor sent = at::full({ranks.rank() * length}, static_cast<double>(ranks.rank()));
    const at::Tensor received = at::full({before * length}, -1.0);
    ranks.exchange_async(sent, next, received, before).wait();
    EXPECT_TRUE(received.equal(at::full({before * length}, static_cast<double>(before))))
        << "length " << length;
  }
}

void exchange_refuses_what_it_cannot_do(Communicator& ranks) {
  const at::Tensor floats = at::zeros({4});
  const at::Tensor doubles = at::zeros({4}, at::kDouble);
  EXPECT_THROW(static_cast<void>(ranks.exchange_async(floats, 0, doubles, 0)), c10::Error);
  EXPECT_THROW(static_cast<void>(ranks.exchange_async(floats, ranks.size(), at::zeros({4}), 0)), c10::Error);
  EXPECT_THROW(static_cast<void>(ranks.exchange_async(floats, 0, floats, 0)), c10::Error);
  EXPECT_THROW(static_cast<void>(ranks.split(ranks.size())), c10::Error);
}

void parts_are_groups_of_their_own(Communicator& ranks) {
  for (std::int64_t round = 0; round < 2; ++round) {
    const auto part = ranks.split(ranks.rank() % 2);
    EXPECT_EQ(part->rank(), ranks.rank() / 2);
    EXPECT_EQ(part->size(), (ranks.size() + 1 - ranks.rank() % 2) / 2);
    const at::Tensor of_all = at::full({3}, static_cast<double>(ranks.rank()));
    const at::Tensor of_part = of_all.clone();
    auto work = ranks.all_reduce_async(of_all, ReduceOp::kSum);  // both at once
    part->all_reduce(of_part, ReduceOp::kSum);
    work.wait();
    double expected = 0;
    for (std::int64_t other = ranks.rank() % 2; other < ranks.size(); other += 2)
      expected += static_cast<double>(other);
    EXPECT_TRUE(of_part.equal(at::full({3}, expected)));
    EXPECT_TRUE(of_all.equal(at::full({3}, static_cast<double>(ranks.size() * (ranks.size() - 1) / 2))));
  }
}

void a_mesh_has_rows_of_neighbours(Communicator& ranks) {
  for (std::int64_t width = 1; width <= ranks.size(); ++width) {
    if (ranks.size() % width != 0) {
      EXPECT_THROW(parallel::Mesh(ranks, width), c10::Error);
      continue;
    }
    const parallel::Mesh mesh(ranks, width);
    EXPECT_EQ(mesh.data_ranks() * mesh.sequence_ranks(), ranks.size());
    EXPECT_EQ(mesh.data_rank() * width + mesh.sequence().rank(), ranks.rank());
    EXPECT_EQ(mesh.sequence().size(), width);
    const at::Tensor row = at::full({1}, static_cast<double>(mesh.data_rank()));
    mesh.sequence().all_reduce(row, ReduceOp::kSum);
    EXPECT_EQ(row.item().toDouble(), static_cast<double>(mesh.data_rank() * width));
  }
}

}  // namespace

const std::vector<ConformanceCase>& part_conformance_cases() {
  static const std::vector<ConformanceCase> cases = {
      {"ARingPassesMessagesOfAnyLength", a_ring_passes_messages_of_any_length},
      {"ExchangeRefusesWhatItCannotDo", exchange_refuses_what_it_cannot_do},
      {"PartsAreGroupsOfTheirOwn", parts_are_groups_of_their_own},
      {"AMeshHasRowsOfNeighbours", a_mesh_has_rows_of_neighbours},
  };
  return cases;
}

}  // namespace sluice::tests
