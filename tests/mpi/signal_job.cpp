// Runs until a USR1 is agreed by all ranks, then exits 75 on each, like a training run that writes its last
// checkpoint.
#include <ATen/ops/zeros.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <thread>

#include "parallel/mpi_environment.h"

namespace {

volatile std::sig_atomic_t asked = 0;

void ask(int) { asked = 1; }

}  // namespace

int main(int argc, char** argv) {
  using namespace sluice::parallel;
  std::signal(SIGUSR1, ask);
  MpiEnvironment mpi(&argc, &argv);
  const auto world = mpi.world();
  world->barrier();
  if (world->rank() == 0) std::puts("ready");
  std::fflush(stdout);
  const at::Tensor any = at::zeros({1}, at::kInt);
  while (any.item<int>() == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    *any.mutable_data_ptr<int>() = asked;
    world->all_reduce(any, ReduceOp::kMax);
  }
  // Longer than the second that mpirun leaves to the ranks after a TERM of its own.
  std::this_thread::sleep_for(std::chrono::milliseconds(2000));
  std::printf("rank %d saved\n", static_cast<int>(world->rank()));
  return 75;
}
