#include "tests/support/gpu_ranks.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <optional>
#include <string_view>

#include "parallel/device.h"
#include "parallel/nccl_communicator.h"
#include "tests/support/gpu.h"
#include "tests/support/mpi_world.h"
#include "tests/support/share_gpus.h"

namespace sluice::tests {
namespace {

/// SLUICE_TEST_EXCHANGE=copy_engines, peer_memory or host_memory: the same tests by other ways.
parallel::Movers movers() {
  const char* const given = std::getenv("SLUICE_TEST_EXCHANGE");
  const std::string_view wish = given == nullptr ? "" : given;
  if (wish == "copy_engines") return parallel::Movers::kCopyEngines;
  if (wish == "host_memory") return parallel::Movers::kHostMemory;
  return wish == "peer_memory" ? parallel::Movers::kPeerMemory : parallel::Movers::kNcclKernels;
}

struct GpuWorld {
  GpuWorld()
      : device(parallel::choose_device(parallel::DeviceChoice::kCuda, parallel::find_place(mpi_world()),
                                       mpi_world())),
        communicator(parallel::make_nccl_communicator(mpi_world(), device, {.movers = movers()})) {}

  at::Device device;
  std::unique_ptr<parallel::Communicator> communicator;
};

std::optional<GpuWorld>& world() {
  static std::optional<GpuWorld> one;
  return one;
}

GpuWorld& made_world() {
  if (!world()) world().emplace();
  return *world();
}

/// Taken down before MPI is.
class GpuRanks : public ::testing::Environment {
 public:
  void SetUp() override {
    if (why_no_gpu().empty()) let_ranks_share_gpus();
  }
  void TearDown() override { world().reset(); }
};

const auto* const environment = ::testing::AddGlobalTestEnvironment(new GpuRanks);

}  // namespace

parallel::Communicator& gpu_world() { return *made_world().communicator; }
at::Device gpu_of_rank() { return made_world().device; }

}  // namespace sluice::tests
