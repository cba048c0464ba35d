#include "trainer/train/step_benchmark.h"

#include <unistd.h>

#include <chrono>
#include <ctime>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

#include "dataio/loader.h"
#include "parallel/gpu_tools.h"
#include "parallel/null_communicator.h"
#include "parallel/nvml.h"
#include "trainer/train/buckets.h"
#include "trainer/train/data_plan.h"
#include "trainer/train/device_group.h"
#include "trainer/train/errors.h"
#include "trainer/train/product_choice.h"
#include "trainer/train/profile.h"
#include "trainer/train/quantile.h"
#include "trainer/train/replica.h"
#include "trainer/train/state_gather.h"

namespace sluice::train {
namespace {

double process_cpu_s() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void check_data(const RunOptions& options, const dataio::SplitLayout& split,
                const parallel::Communicator& world) {
  check_ranks(options, world);
  const auto fault = window_fault(window_plan(options, split), "the split " + split.name);
  if (fault) throw InputError(*fault);
}

/// Seconds since the kernel started this process.
double process_age_s() {
  // Field 22 of the line; the second, a name in parentheses, may hold blanks.
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  std::istringstream fields(line.substr(line.rfind(')') + 2));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  const double started = std::stod(field) / static_cast<double>(sysconf(_SC_CLK_TCK));
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec) - started;
}

/// Energy of a rank's device over the counted steps; nothing where nobody counts it.
class EnergyWatch {
 public:
  explicit EnergyWatch(const c10::Device& device) {
    if (!device.is_cpu()) power_ = parallel::PowerMeter::open(parallel::pci_bus_id(device.index()));
  }
  void start() {
    if (power_) joules_ = power_->energy_j();
    started_ = std::chrono::steady_clock::now();
  }
  void stop(double own_tokens, StepMetrics& metrics) const {
    const auto now = power_ ? power_->energy_j() : std::nullopt;
    if (!now || !joules_) return;
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - started_;
    metrics.power_w = (*now - *joules_) / seconds.count();
    metrics.energy_per_token_j = (*now - *joules_) / own_tokens;
  }

 private:
  std::unique_ptr<parallel::PowerMeter> power_;
  std::optional<double> joules_;
  std::chrono::steady_clock::time_point started_;
};

/// The last id stands for the mask token: what tokens mean changes no time.
std::optional<Masking> benchmark_masking(const RunOptions& options, std::int64_t vocabulary_size) {
  if (objective_of(options.train) == Objective::kCausal) return std::nullopt;
  const auto last = static_cast<std::int32_t>(vocabulary_size - 1);
  return training_masking(options,
                          {.mask_token = last, .special_tokens = {last}, .vocabulary_size = vocabulary_size});
}

/// As a run does: rank 0 draws, the others get theirs from it.
void initialise_on_ranks(Replica& replica, std::uint64_t seed, parallel::Communicator& exchange) {
  at::Tensor whole;
  if (exchange.rank() == 0) {
    whole = whole_buffer(replica.state_layout(), replica.parameters());
    replica.draw(seed, whole);
  }
  share_buffer(replica.state_layout(), whole, replica.parameters(), exchange);
  replica.round_parameters();
}

double median_step_s(const std::vector<StepTimes>& steps) {
  std::vector<double> seconds;
  for (const StepTimes& step : steps) seconds.push_back(step.result.step_s);
  return quantile(std::move(seconds), 0.5);
}

}  // namespace

StepBenchmark benchmark_steps(const RunOptions& options, const dataio::SplitLayout& split,
                              std::int64_t vocabulary_size, const BenchmarkPlan& plan, DeviceGroup& group) {
  parallel::Communicator& world = group.exchange();
  check_data(options, split, world);
  const dataio::Slicing slicing = slicing_of(options, world);
  Placement placement = placement_for(options.train, group.device());
  check_products(placement);
  placement.exchange = &world;
  dataio::Loader loader(
      std::make_shared<dataio::SplitReader>(split, vocabulary_size, dataio::ReaderOptions{}),
      sample_order(options, split), slicing,
      loader_options(options, group.device(), benchmark_masking(options, vocabulary_size)), 0);
  const auto nobody = plan.exchanging == Exchanging::kWithNobody
                          ? parallel::make_null_communicator(world, group.device())
                          : nullptr;
  parallel::Communicator& others = nobody ? *nobody : world;  // of the steps
  const SequenceRanks sequence(options, others, group.device(), plan.exchanging);
  Replica replica(options.model, vocabulary_size, placement, ReplicaUse::kTraining,
                  choose_buckets(options, vocabulary_size, group), recompute_of(options.train),
                  parameter_owner(sharding_of(options), placement, world.rank()), sequence.exchange());
  StepPlan plan_of_steps = step_plan(options, slicing);
  // A copy is done where it begins: a thread to watch it would only wait for its turn at the cores.
  if (nobody) plan_of_steps.progress = parallel::ReducerProgress::kCaller;
  const auto step = make_train_step(replica, plan_of_steps, sequence.groups(others));
  initialise_on_ranks(replica, options.model.seed, world);
  step->settle();
  const ProductChoice products = choose_products(options, replica, "", world);
  StepBenchmark benchmark{.parameters = replica.parameter_count(),
                          .tokens_per_step = options.train.global_batch * options.model.seq_len,
                          .steps = {},
                          .start_to_first_step_s = 0,
                          .memory = {},
                          .tuned_products = products.tuned,
                          .tuning_s = products.seconds,
                          .metrics = {},
                          .peaks = {}};
  const c10::Device device = replica.parameters().device();
  EnergyWatch energy(device);
  std::optional<Profile> profile;
  if (const auto file = profile_file(plan.profile, world.rank()))
    profile.emplace(ProfilePlan{.file = *file, .skip = plan.warm_up}, device);
  world.barrier();
  const std::int64_t all = plan.warm_up + plan.steps;
  for (std::int64_t begun = 0, done = 0; done < all;) {
    const double before = process_cpu_s();
    if (begun < all) {
      if (profile) profile->before_step();
      step->begin(begun++, loader, [] { return StopWish::kGoOn; });
      const bool more = begun - done <= step->lag() && begun < all;
      if (more && begun > 1) continue;  // as many in flight as in training
    }
    if (done == plan.warm_up) energy.start();
    const StepResult result = step->finish();
    if (done == 0) benchmark.start_to_first_step_s = process_age_s();
    if (done++ >= plan.warm_up) benchmark.steps.push_back({result, process_cpu_s() - before});
  }
  if (profile) profile->finish();
  StepMetrics means;
  energy.stop(static_cast<double>(plan.steps * benchmark.tokens_per_step) / static_cast<double>(world.size()),
              means);
  benchmark.memory = parallel::peak_memory(device);
  benchmark.peaks = find_peaks(device, options.train.precision, world);
  benchmark.metrics =
      step_metrics(workload_of(options, vocabulary_size, world.size(), placement.device, placement.compute),
                   benchmark.peaks, median_step_s(benchmark.steps));
  benchmark.metrics.peak_memory_bytes = benchmark.memory.allocated_peak;
  benchmark.metrics.power_w = means.power_w;
  benchmark.metrics.energy_per_token_j = means.energy_per_token_j;
  return benchmark;
}

}  // namespace sluice::train
