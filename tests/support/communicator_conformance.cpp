#include "tests/support/communicator_conformance.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "parallel/agree.h"
#include "parallel/replica_check.h"
#include "tests/support/rank_values.h"

namespace sluice::tests {
namespace {

using parallel::Communicator;
using parallel::ReduceOp;
using parallel::Work;

constexpr std::int64_t kSizes[] = {0, 1, 2, 3, 7, 31, 511, 513, 1024, 1025, 2049, 40961, 300007};
constexpr ReduceOp kOps[] = {ReduceOp::kSum, ReduceOp::kMin, ReduceOp::kMax};

template <typename T>
void reduces_type(Communicator& ranks, at::ScalarType type) {
  for (const std::int64_t size : kSizes) {
    for (const ReduceOp op : kOps) {
      const at::Tensor tensor = at::empty({size}, type);
      fill<T>(tensor, ranks.rank());
      ranks.all_reduce(tensor, op);
      EXPECT_TRUE(is_folded<T>(tensor, ranks.size(), op)) << type << " op " << static_cast<int>(op);
    }
  }
}

void all_reduce_is_a_loop_over_ranks(Communicator& ranks) {
  reduces_type<float>(ranks, at::kFloat);
  reduces_type<double>(ranks, at::kDouble);
  reduces_type<std::int64_t>(ranks, at::kLong);
  reduces_type<std::int32_t>(ranks, at::kInt);
}

void all_reduce_keeps_shape_and_views(Communicator& ranks) {
  const at::Tensor whole = at::zeros({100}, at::kFloat);
  const at::Tensor part = whole.narrow(0, 10, 30).view({5, 6});
  fill<float>(part, ranks.rank());
  ranks.all_reduce(part, ReduceOp::kSum);
  EXPECT_TRUE(is_folded<float>(part, ranks.size(), ReduceOp::kSum));
  EXPECT_EQ(part.sizes(), (std::vector<std::int64_t>{5, 6}));
  for (const std::int64_t outside : {0, 9, 40, 99})
    EXPECT_EQ(whole.const_data_ptr<float>()[outside], 0.0F) << outside;
}

void extremes_keep_nan(Communicator& ranks) {
  for (const ReduceOp op : {ReduceOp::kMin, ReduceOp::kMax}) {
    for (std::int64_t sick = 0; sick < ranks.size(); ++sick) {
      const at::Tensor tensor = at::zeros({3}, at::kDouble);
      if (ranks.rank() == sick)
        tensor.mutable_data_ptr<double>()[1] = std::numeric_limits<double>::quiet_NaN();
      ranks.all_reduce(tensor, op);
      EXPECT_EQ(tensor.const_data_ptr<double>()[0], 0.0);
      EXPECT_TRUE(std::isnan(tensor.const_data_ptr<double>()[1])) << "NaN of rank " << sick;
    }
  }
}

/// Several at once, waited for in another order on each rank.
void async_overlaps(Communicator& ranks) {
  constexpr std::size_t kCount = 6;
  std::vector<at::Tensor> tensors;
  std::vector<Work> works;
  for (std::size_t i = 0; i < kCount; ++i) {
    tensors.push_back(at::empty({kSizes[7 + i]}, at::kFloat));
    fill<float>(tensors.back(), ranks.rank());
    works.push_back(ranks.all_reduce_async(tensors.back(), kOps[i % 3]));
  }
  for (std::size_t i = 0; i < kCount; ++i)
    works[(i + static_cast<std::size_t>(ranks.rank())) % kCount].wait();
  for (std::size_t i = 0; i < kCount; ++i)
    EXPECT_TRUE(is_folded<float>(tensors[i], ranks.size(), kOps[i % 3])) << i;
}

void async_finishes_by_testing_alone(Communicator& ranks) {
  const at::Tensor tensor = at::empty({40961}, at::kDouble);
  fill<double>(tensor, ranks.rank());
  Work work = ranks.all_reduce_async(tensor, ReduceOp::kSum);
  while (!work.test()) {
  }
  EXPECT_TRUE(work.test());
  EXPECT_TRUE(is_folded<double>(tensor, ranks.size(), ReduceOp::kSum));
}

void blocking_operations_pass_running_ones(Communicator& ranks) {
  const at::Tensor running = at::empty({300007}, at::kFloat);
  fill<float>(running, ranks.rank());
  Work work = ranks.all_reduce_async(running, ReduceOp::kSum);
  const at::Tensor scalar = at::empty({1}, at::kDouble);
  fill<double>(scalar, ranks.rank());
  ranks.all_reduce(scalar, ReduceOp::kSum);
  EXPECT_TRUE(is_folded<double>(scalar, ranks.size(), ReduceOp::kSum));
  ranks.barrier();
  EXPECT_EQ(ranks.broadcast(std::to_string(ranks.rank()), ranks.size() - 1),
            std::to_string(ranks.size() - 1));
  work.wait();
  EXPECT_TRUE(is_folded<float>(running, ranks.size(), ReduceOp::kSum));
}

void work_finishes_in_its_destructor(Communicator& ranks) {
  const at::Tensor first = at::empty({40961}, at::kFloat);
  const at::Tensor second = at::empty({40961}, at::kFloat);
  fill<float>(first, ranks.rank());
  fill<float>(second, ranks.rank());
  {
    Work work = ranks.all_reduce_async(first, ReduceOp::kSum);
    work = ranks.all_reduce_async(second, ReduceOp::kMax);
    EXPECT_TRUE(is_folded<float>(first, ranks.size(), ReduceOp::kSum))
        << "assignment finishes what it replaces";
  }
  EXPECT_TRUE(is_folded<float>(second, ranks.size(), ReduceOp::kMax));
}

void broadcast_from_each_root(Communicator& ranks) {
  for (const auto type : {at::kFloat, at::kLong, at::kByte, at::kBFloat16, at::kBool}) {
    for (const std::int64_t size : kSizes) {
      for (std::int64_t root = 0; root < ranks.size(); ++root) {
        const at::Tensor tensor = at::zeros({size}, type);
        const auto bytes = tensor.nbytes();
        if (ranks.rank() == root && bytes > 0)
          std::memset(tensor.data_ptr(), 1 + static_cast<int>(root), bytes);
        ranks.broadcast(tensor, root);
        const auto* data = static_cast<const unsigned char*>(tensor.const_data_ptr());
        EXPECT_EQ(std::count(data, data + bytes, 1 + root), static_cast<std::int64_t>(bytes))
            << type << " " << root;
      }
    }
  }
}

std::string bytes_of_rank(std::int64_t rank, std::size_t length) {
  std::string bytes(length, '\0');
  for (std::size_t i = 0; i < length; ++i)
    bytes[i] = static_cast<char>((i * 31 + static_cast<std::size_t>(rank)) % 256);
  return bytes;
}

void bytes_of_any_length(Communicator& ranks) {
  for (const std::size_t length : {0U, 1U, 77U, 5000U, 100001U}) {
    for (std::int64_t root = 0; root < ranks.size(); ++root) {
      const std::string own =
          ranks.rank() == root ? bytes_of_rank(root, length) : std::string("something else");
      EXPECT_EQ(ranks.broadcast(own, root), bytes_of_rank(root, length));
    }
    // Rank r gives r * length bytes: rank 0 none.
    const auto all =
        ranks.all_gather(bytes_of_rank(ranks.rank(), length * static_cast<std::size_t>(ranks.rank())));
    ASSERT_EQ(all.size(), static_cast<std::size_t>(ranks.size()));
    for (std::size_t rank = 0; rank < all.size(); ++rank)
      EXPECT_EQ(all[rank], bytes_of_rank(static_cast<std::int64_t>(rank), length * rank));
  }
}

template <typename Call>
std::string message_of(Call call) {
  try {
    call();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "nothing was thrown";
}

void contract_is_checked(Communicator& ranks) {
  using ::testing::HasSubstr;
  const at::Tensor square = at::zeros({3, 4}, at::kFloat);
  EXPECT_THAT(message_of([&] { ranks.all_reduce(square.t(), ReduceOp::kSum); }), HasSubstr("[4, 3]"));
  EXPECT_THAT(message_of([&] { ranks.all_reduce(at::zeros({2}, at::kHalf), ReduceOp::kSum); }),
              HasSubstr("Half"));
  EXPECT_THAT(message_of([&] { ranks.all_reduce(at::Tensor(), ReduceOp::kSum); }), HasSubstr("undefined"));
  EXPECT_THAT(message_of([&] { (void)ranks.all_reduce_async(square.t(), ReduceOp::kSum); }),
              HasSubstr("contiguous"));
  EXPECT_THAT(message_of([&] { ranks.broadcast(square.t(), 0); }), HasSubstr("contiguous"));
  EXPECT_THAT(message_of([&] { ranks.broadcast(square, ranks.size()); }),
              HasSubstr("root " + std::to_string(ranks.size())));
  EXPECT_THAT(message_of([&] { (void)ranks.broadcast(std::string("x"), -1); }), HasSubstr("root -1"));
  EXPECT_THAT(message_of([&] { (void)ranks.reduce_scatter_async(at::zeros({8}, at::kBFloat16)); }),
              HasSubstr("BFloat16"));
  const at::Tensor flat = at::zeros({4 * ranks.size()}, at::kFloat);
  EXPECT_THAT(message_of([&] { (void)ranks.all_to_all_async(flat, flat); }), HasSubstr("overlap"));
  EXPECT_THAT(
      message_of([&] { (void)ranks.all_to_all_async(flat, at::zeros({4 * ranks.size()}, at::kInt)); }),
      HasSubstr("Int"));
  if (ranks.size() > 1) {
    const at::Tensor uneven = at::zeros({4 * ranks.size() + 1}, at::kFloat);
    const std::string count = std::to_string(uneven.numel()) + " elements";
    EXPECT_THAT(message_of([&] { (void)ranks.reduce_scatter_async(uneven); }), HasSubstr(count));
    EXPECT_THAT(message_of([&] { (void)ranks.all_gather_async(uneven); }), HasSubstr(count));
    EXPECT_THAT(message_of([&] { (void)ranks.all_to_all_async(uneven, at::zeros_like(uneven)); }),
                HasSubstr(count));
    const at::Tensor meta = at::empty({2}, at::TensorOptions().dtype(at::kFloat).device(at::kMeta));
    EXPECT_THAT(message_of([&] { ranks.all_reduce(meta, ReduceOp::kSum); }), HasSubstr("meta"));
  }
  ranks.barrier();  // a refused call leaves the group usable
}

void cross_check_names_both_calls(Communicator& ranks) {
  using ::testing::AllOf;
  using ::testing::HasSubstr;
  ranks.set_cross_check(parallel::CrossCheck::kOn);
  const at::Tensor tensor = at::zeros({3}, at::kFloat);
  ranks.all_reduce(tensor, ReduceOp::kSum);
  if (ranks.size() > 1) {
    const at::Tensor other = at::zeros({ranks.rank() == 0 ? 3 : 4}, at::kFloat);
    EXPECT_THAT(message_of([&] { ranks.all_reduce(other, ReduceOp::kSum); }),
                AllOf(HasSubstr("[3]"), HasSubstr("[4]"), HasSubstr("rank 1")));
  }
  ranks.barrier();
  ranks.set_cross_check(parallel::CrossCheck::kOff);
}

void faults_are_agreed(Communicator& ranks) {
  using ::testing::AllOf;
  using ::testing::HasSubstr;
  for (std::int64_t faulty = 0; faulty < ranks.size(); ++faulty) {
    try {
      parallel::on_all_ranks(ranks, [&] {
        if (ranks.rank() == faulty) throw std::out_of_range("shelf " + std::to_string(faulty) + " is empty");
      });
      ADD_FAILURE() << "nothing was thrown";
    } catch (const std::out_of_range& error) {
      EXPECT_EQ(ranks.rank(), faulty) << error.what();
    } catch (const parallel::PeerError& error) {
      EXPECT_NE(ranks.rank(), faulty);
      EXPECT_THAT(error.what(), AllOf(HasSubstr("rank " + std::to_string(faulty)), HasSubstr("is empty")));
    }
  }
  int runs = 0;
  parallel::on_all_ranks(ranks, [&] { ++runs; });
  EXPECT_EQ(runs, 1);
}

void replicas_that_drift_are_named(Communicator& ranks) {
  const at::Tensor tensor = at::empty({1000}, at::kFloat);
  fill<float>(tensor, 0);
  EXPECT_NO_THROW(parallel::check_replicas(ranks, tensor, "parameters"));
  if (ranks.size() < 2) return;
  const std::int64_t odd = ranks.size() - 1;
  if (ranks.rank() == odd) tensor.mutable_data_ptr<float>()[999] += 0.5F;
  try {
    parallel::check_replicas(ranks, tensor, "parameters");
    ADD_FAILURE() << "nothing was thrown";
  } catch (const parallel::ReplicaDrift& drift) {
    EXPECT_THAT(drift.ranks(), ::testing::ElementsAre(odd));
    EXPECT_THAT(drift.what(), ::testing::HasSubstr("parameters"));
  }
}

}  // namespace

const std::vector<ConformanceCase>& conformance_cases() {
  static const std::vector<ConformanceCase> cases = [] {
    std::vector<ConformanceCase> all = {
        {"AllReduceIsALoopOverRanks", all_reduce_is_a_loop_over_ranks},
        {"AllReduceKeepsShapeAndViews", all_reduce_keeps_shape_and_views},
        {"ExtremesKeepNan", extremes_keep_nan},
        {"AsyncOverlaps", async_overlaps},
        {"AsyncFinishesByTestingAlone", async_finishes_by_testing_alone},
        {"BlockingOperationsPassRunningOnes", blocking_operations_pass_running_ones},
        {"WorkFinishesInItsDestructor", work_finishes_in_its_destructor},
        {"BroadcastFromEachRoot", broadcast_from_each_root},
        {"BytesOfAnyLength", bytes_of_any_length},
        {"ContractIsChecked", contract_is_checked},
        {"CrossCheckNamesBothCalls", cross_check_names_both_calls},
        {"FaultsAreAgreed", faults_are_agreed},
        {"ReplicasThatDriftAreNamed", replicas_that_drift_are_named},
    };
    const auto& chunks = chunk_conformance_cases();
    all.insert(all.end(), chunks.begin(), chunks.end());
    const auto& parts = part_conformance_cases();
    all.insert(all.end(), parts.begin(), parts.end());
    return all;
  }();
  return cases;
}

}  // namespace sluice::tests
