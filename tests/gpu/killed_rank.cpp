// A job whose rank 1 is killed while all ranks replay a captured all-reduce (kill; kill_in_host_memory:
// through the host's memory) or a captured meeting (kill_at_meeting). expect_job_fault.sh checks that it
// ends, and that the operation is named.
#include <ATen/cuda/CUDAGraph.h>
#include <ATen/ops/ones.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <thread>

#include "parallel/device.h"
#include "parallel/mpi_environment.h"
#include "parallel/nccl_communicator.h"
#include "parallel/watchdog.h"
#include "tests/support/share_gpus.h"

namespace {

using namespace sluice::parallel;

/// As a step does: polls, so that a fault ends the wait.
void wait_for(const c10::cuda::CUDAStream& stream, Communicator& ranks, int step) {
  const auto blocking = ranks.blocking("step " + std::to_string(step) + " on the GPU");
  while (!stream.query()) {
    ranks.check();
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

void train(Communicator& ranks, at::Device device, bool meets) {
  const c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool(false, device.index());
  const c10::cuda::CUDAStreamGuard guard(stream);
  const at::Tensor tensor = at::ones({1 << 20}, at::TensorOptions().dtype(at::kFloat).device(device));
  const auto exchange = [&] { meets ? ranks.meet_async().wait() : ranks.all_reduce(tensor, ReduceOp::kMax); };
  exchange();
  at::cuda::CUDAGraph graph;
  graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
  exchange();
  graph.capture_end();
  for (int step = 0;; ++step) {
    if (ranks.rank() == 1 && step == 3) std::raise(SIGKILL);
    graph.replay();
    try {
      wait_for(stream, ranks, step);
    } catch (const std::exception& error) {
      // The graph is alive here, as in a training run.
      std::fprintf(stderr, "rank %d: %s\n", static_cast<int>(ranks.rank()), error.what());
      ranks.abort(3);
    }
  }
}

void ignore(int /*signal*/) {}

int run(int argc, char** argv) {
  MpiEnvironment mpi(&argc, &argv);
  std::signal(SIGTERM, ignore);  // the launcher sends it first; a training run takes it as a wish to stop
  sluice::tests::let_ranks_share_gpus();
  const auto world = mpi.world();
  if (report_devices().gpus.empty()) {
    std::printf("this machine has no visible GPU\n");
    return 77;
  }
  const at::Device device = choose_device(DeviceChoice::kCuda, find_place(*world), *world);
  const std::string_view fault = argc > 1 ? argv[1] : "kill";
  const bool meets = fault == "kill_at_meeting";
  const Movers movers = meets                            ? Movers::kPeerMemory
                        : fault == "kill_in_host_memory" ? Movers::kHostMemory
                                                         : Movers::kNcclKernels;
  const auto ranks = make_nccl_communicator(*world, device, {.movers = movers});
  if (meets && !ranks->has_peer_memory()) {
    std::printf("the GPUs of these ranks do not reach one another's memory\n");
    return 77;
  }
  const Watchdog watchdog(*world, {.limit = std::chrono::seconds(30)}, [](const HangReport& report) {
    std::fprintf(stderr, "%s\n", report.text().c_str());
  });
  train(*ranks, device, meets);
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
