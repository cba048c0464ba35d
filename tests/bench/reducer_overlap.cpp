// reducer_overlap [MILLION ELEMENTS] [BUCKET ELEMENTS] [COMPUTE MS PER ENTRY] [BUSY|SLEEP]: how much of the
// gradient exchange a backward hides. A fake backward of 24 entries works between mark_ready calls; shown is
// the median over steps, on rank 0, in four manners: no exchange, exchange after backward, overlapped, and
// overlapped with a thread that makes progress too.
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "parallel/gradient_reducer.h"
#include "parallel/mpi_environment.h"

namespace {

using namespace sluice::parallel;
using Clock = std::chrono::steady_clock;

constexpr int kEntries = 24;
constexpr int kSteps = 15;

struct Settings {
  std::int64_t elements = 0;
  std::int64_t bucket_elements = 0;
  std::chrono::duration<double> compute{};
  bool sleep = false;
};

enum class Manner { kNone, kAfter, kOverlapped, kThread };

void compute(const Settings& settings) {
  const auto end = Clock::now() + settings.compute;
  if (settings.sleep) std::this_thread::sleep_until(end);
  while (Clock::now() < end) {
  }
}

struct Times {
  double step_s = 0;
  double exposed_s = 0;
};

Times run_step(GradientReducer& reducer, const Settings& settings, Manner manner) {
  const auto begin = Clock::now();
  const bool overlapped = manner == Manner::kOverlapped || manner == Manner::kThread;
  if (overlapped) reducer.start();
  for (std::int64_t entry = kEntries - 1; entry >= 0; --entry) {
    compute(settings);
    if (overlapped) reducer.mark_ready(entry);
  }
  if (manner == Manner::kAfter) {
    reducer.start();
    for (std::int64_t entry = kEntries - 1; entry >= 0; --entry) reducer.mark_ready(entry);
  }
  Times times;
  if (manner != Manner::kNone) times.exposed_s = reducer.finish();
  times.step_s = std::chrono::duration<double>(Clock::now() - begin).count();
  return times;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void measure(Communicator& world, const Settings& settings, Manner manner, const char* name) {
  std::vector<TensorSpec> specs;
  for (int entry = 0; entry < kEntries; ++entry)
    specs.push_back({"entry" + std::to_string(entry), {settings.elements / kEntries}});
  const ArenaLayout layout(specs, {.bucket_elements = settings.bucket_elements, .world = world.size()});
  const at::Tensor gradients = layout.allocate(at::kFloat, at::kCPU);
  GradientReducer reducer(
      layout, gradients, world,
      {.progress = manner == Manner::kThread ? ReducerProgress::kThread : ReducerProgress::kCaller});
  std::vector<double> steps;
  std::vector<double> exposed;
  for (int step = 0; step < kSteps; ++step) {
    world.barrier();
    const Times times = run_step(reducer, settings, manner);
    steps.push_back(times.step_s * 1e3);
    exposed.push_back(times.exposed_s * 1e3);
  }
  if (world.rank() == 0)
    std::printf("%-34s step %8.2f ms   exposed %8.2f ms (%4.1f %% of the step)\n", name, median(steps),
                median(exposed), 100 * median(exposed) / median(steps));
}

double argument(int argc, char** argv, int index, double otherwise) {
  return argc > index ? std::atof(argv[index]) : otherwise;
}

}  // namespace

int main(int argc, char** argv) {
  MpiEnvironment mpi(&argc, &argv);
  const auto world = mpi.world();
  Settings settings;
  settings.elements = static_cast<std::int64_t>(argument(argc, argv, 1, 6) * 1e6);
  settings.bucket_elements = static_cast<std::int64_t>(argument(argc, argv, 2, 1 << 19));
  settings.compute = std::chrono::duration<double>(argument(argc, argv, 3, 2) * 1e-3);
  settings.sleep = argc > 4 && std::string(argv[4]) == "sleep";
  measure(*world, settings, Manner::kNone, "backward alone");
  measure(*world, settings, Manner::kAfter, "exchange after backward");
  measure(*world, settings, Manner::kOverlapped, "overlapped, by the caller");
  measure(*world, settings, Manner::kThread, "overlapped, by a thread");
  return 0;
}
