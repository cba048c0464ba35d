#include <ATen/ops/cat.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "parallel/device.h"
#include "parallel/gradient_reducer.h"
#include "parallel/mpi_environment.h"
#include "parallel/replica_check.h"
#include "parallel/shared_memory.h"
#include "tests/support/communicator_conformance.h"
#include "tests/support/mpi_world.h"

namespace sluice::tests {
namespace {

using parallel::Communicator;

class MpiConformance : public testing::TestWithParam<ConformanceCase> {};

TEST_P(MpiConformance, Holds) { GetParam().run(mpi_world()); }

/// Everything travels in many parts, which end inside elements.
TEST_P(MpiConformance, HoldsWithTinyMessages) {
  const auto tiny = mpi_environment().world({.message_bytes = 4099});
  GetParam().run(*tiny);
}

INSTANTIATE_TEST_SUITE_P(World, MpiConformance, testing::ValuesIn(conformance_cases()),
                         [](const auto& one) { return one.param.name; });

TEST(Mpi, RunsAsManyRanksAsTheLauncherStarted) {
  const char* launched = std::getenv("OMPI_COMM_WORLD_SIZE");
  if (launched == nullptr) launched = std::getenv("PMI_SIZE");  // MPICH's
  if (launched == nullptr) GTEST_SKIP() << "not started by Open MPI's launcher, nor by MPICH's";
  EXPECT_EQ(std::to_string(mpi_world().size()), launched);
  EXPECT_EQ(mpi_world().name(), "mpi");
  EXPECT_FALSE(parallel::mpi_library_version().empty());
}

TEST(Mpi, RefusesMessageLengthsThatMpiCannotCount) {
  EXPECT_THROW((void)mpi_environment().world({.message_bytes = 0}), c10::Error);
  EXPECT_THROW((void)mpi_environment().world({.message_bytes = std::int64_t{1} << 31}), c10::Error);
}

TEST(Mpi, SeesWhichRanksOfThisHostDidNotArrive) {
  Communicator& world = mpi_world();
  if (world.size() == 1) return;
  world.barrier();
  EXPECT_TRUE(world.missing_ranks(1).empty());
  EXPECT_EQ(world.missing_ranks(std::int64_t{1} << 40).size(), static_cast<std::size_t>(world.size()));
}

TEST(Mpi, KnowsItsPlaceOnTheHost) {
  Communicator& world = mpi_world();
  const parallel::Place place = parallel::find_place(world);  // compares it with the launcher's
  EXPECT_EQ(place.local_rank, world.rank());
  EXPECT_EQ(place.local_size, world.size());
}

TEST(Mpi, RanksOfAHostShareMemory) {
  Communicator& world = mpi_world();
  const auto ranks = static_cast<std::size_t>(world.size());
  const parallel::SharedMemory memory(world, ranks);
  memory.begin()[world.rank()] = static_cast<std::byte>(world.rank() + 1);
  world.barrier();
  for (std::size_t rank = 0; rank < ranks; ++rank)
    EXPECT_EQ(memory.begin()[rank], static_cast<std::byte>(rank + 1));
  world.barrier();
}

TEST(Mpi, ACheckIsQuietWhileAllProcessesLive) { EXPECT_NO_THROW(mpi_world().check()); }

/// Gradients whose sum depends on the order of addition, from a fixed recipe.
void fill_gradients(const at::Tensor& gradients, std::int64_t rank) {
  float* data = gradients.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < gradients.numel(); ++i)
    data[i] = std::sin(static_cast<float>(i) * 0.37F + static_cast<float>(rank) * 1.7F) *
              std::exp(static_cast<float>((i * 7 + rank * 3) % 23 - 11));
}

parallel::ArenaLayout model_like_layout(std::int64_t bucket_elements, std::int64_t world) {
  std::vector<parallel::TensorSpec> specs;
  for (int layer = 0; layer < 6; ++layer) {
    const std::string name = "layer" + std::to_string(layer);
    specs.push_back({name + ".in", {96, 301}});
    specs.push_back({name + ".spatial", {64, 64}});
    specs.push_back({name + ".bias", {64}});
    specs.push_back({name + ".out", {150, 96}});
  }
  return parallel::ArenaLayout(specs, {.bucket_elements = bucket_elements, .world = world});
}

/// The tensors of a flat buffer one after another, without its padding.
at::Tensor content(const parallel::ArenaLayout& layout, const at::Tensor& flat) {
  std::vector<at::Tensor> tensors;
  for (std::int64_t entry = 0; entry < static_cast<std::int64_t>(layout.entries().size()); ++entry)
    tensors.push_back(layout.view(flat, entry).flatten());
  return at::cat(tensors);
}

/// Fills the tensors alike, wherever they lie.
void fill_content(const parallel::ArenaLayout& layout, const at::Tensor& flat, std::int64_t rank) {
  at::Tensor values = content(layout, flat);
  fill_gradients(values, rank);
  std::int64_t begin = 0;
  for (std::int64_t entry = 0; entry < static_cast<std::int64_t>(layout.entries().size()); ++entry) {
    const at::Tensor view = layout.view(flat, entry);
    view.copy_(values.narrow(0, begin, view.numel()).view(view.sizes()));
    begin += view.numel();
  }
}

TEST(MpiGradientReducer, GivesTheSameBitsOnAllRanksAndInEveryRun) {
  Communicator& world = mpi_world();
  std::uint64_t first_run = 0;
  // Bucket sizes move the borders of what is exchanged at once; the sum must not notice.
  for (const std::int64_t bucket_elements : {1, 20000, 20000, 1 << 30}) {
    const auto progress =
        first_run == 0 ? parallel::ReducerProgress::kCaller : parallel::ReducerProgress::kThread;
    const auto layout = model_like_layout(bucket_elements, world.size());
    const at::Tensor gradients = layout.allocate(at::kFloat, at::kCPU);
    parallel::GradientReducer reducer(layout, gradients, world, {.progress = progress});
    fill_content(layout, gradients, world.rank());
    reducer.start();
    for (auto entry = static_cast<std::int64_t>(layout.entries().size()) - 1; entry >= 0; --entry) {
      reducer.mark_ready(entry);
      reducer.progress();
    }
    EXPECT_GE(reducer.finish(), 0.0);
    const std::uint64_t digest = parallel::buffer_digest({content(layout, gradients)});
    if (first_run == 0) first_run = digest;
    EXPECT_EQ(digest, first_run) << "bucket of " << bucket_elements;
    EXPECT_NO_THROW(parallel::check_replicas(world, gradients, "gradients"));
  }
  const auto layout = model_like_layout(1, 1);
  at::Tensor expected = content(layout, layout.allocate(at::kFloat, at::kCPU));
  const at::Tensor part = at::zeros_like(expected);
  fill_gradients(expected, 0);
  for (std::int64_t rank = 1; rank < world.size(); ++rank) {
    fill_gradients(part, rank);
    expected.add_(part);
  }
  EXPECT_EQ(first_run, parallel::buffer_digest({expected}));
}

}  // namespace
}  // namespace sluice::tests
