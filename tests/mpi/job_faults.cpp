// A job that goes wrong in the way its argument names. expect_job_fault.sh checks that the launcher then ends
// all of it.
#include <ATen/ops/zeros.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>

#include "parallel/agree.h"
#include "parallel/mpi_environment.h"
#include "parallel/watchdog.h"

namespace {

using namespace sluice::parallel;

/// Rank 1 fails in step 3, the others go on to an all-reduce that it never joins.
void train(Communicator& world, const std::string& fault) {
  const at::Tensor small = at::zeros({8}, at::kFloat);
  const at::Tensor large = at::zeros({1 << 20}, at::kFloat);
  for (int step = 0;; ++step) {
    Work running = world.all_reduce_async(large, ReduceOp::kSum);
    if (world.rank() == 1 && step == 3) {
      if (fault == "kill" || fault == "vanish") std::raise(SIGKILL);
      if (fault == "hang") std::this_thread::sleep_for(std::chrono::hours(1));
      throw std::runtime_error("the disk of rank 1 is on fire");
    }
    world.all_reduce(small, ReduceOp::kSum);
    running.wait();
  }
}

/// Rank 2 never joins what it shares with rank 1 alone, while rank 0 waits for both.
void share(Communicator& world) {
  const auto row = world.split(world.rank() == 0 ? 0 : 1);
  if (world.rank() == 2) std::this_thread::sleep_for(std::chrono::hours(1));
  const at::Tensor rows = at::zeros({64}, at::kFloat);
  if (world.rank() == 1) row->all_gather_async(rows).wait();
  world.barrier();
}

/// The other ranks may see first that the job stands still: the one next to the fault is to name it.
std::chrono::milliseconds watchdog_limit(const std::string& fault, std::int64_t rank) {
  if (fault == "hang") return std::chrono::seconds(2);
  if (fault == "hang_in_row") return std::chrono::seconds(rank == 1 ? 2 : 20);
  return std::chrono::milliseconds(0);
}

int run(int argc, char** argv) {
  MpiEnvironment mpi(&argc, &argv);
  const std::string fault = argv[1];
  // As in a training run, which takes the launcher's SIGTERM as a wish to stop after the step.
  if (fault == "vanish") std::signal(SIGTERM, SIG_IGN);
  const auto world = mpi.world();
  const Watchdog watchdog(*world, {.limit = watchdog_limit(fault, world->rank()), .exit_code = 9},
                          [](const HangReport& hang) { std::fprintf(stderr, "%s\n", hang.text().c_str()); });
  if (fault == "setup") {
    on_all_ranks(*world, [&] {
      if (world->rank() == 1) throw std::runtime_error("no corpus here");
    });
  }
  if (fault == "hang_in_row") share(*world);
  if (fault != "abort") {
    train(*world, fault);
    return 0;
  }
  try {
    train(*world, fault);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rank %d: %s\n", static_cast<int>(world->rank()), error.what());
    world->abort(3);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
