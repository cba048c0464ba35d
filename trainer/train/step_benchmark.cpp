#include "trainer/train/step_benchmark.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <memory>

#include "dataio/loader.h"
#include "dataio/order.h"
#include "trainer/train/errors.h"
#include "trainer/train/replica.h"

namespace sluice::train {
namespace {

double process_cpu_s() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

dataio::Slicing slicing_of(const RunOptions& options, const parallel::Communicator& world) {
  if (options.train.global_batch < world.size()) {
    throw InputError(
        fmt::format("train.global_batch: {} sequences for {} ranks; allowed is at least one for each",
                    options.train.global_batch, world.size()));
  }
  return {.global_batch = options.train.global_batch,
          .micro_batch = options.train.micro_batch,
          .world_size = world.size(),
          .rank = world.rank()};
}

dataio::Order order_of(const RunOptions& options, const dataio::SplitLayout& split) {
  const bool random = options.data.window == "random-offset";
  const dataio::WindowPlan plan{
      .split_tokens = split.tokens,
      .seq_len = options.model.seq_len,
      .mode = random ? dataio::WindowMode::kRandomOffset : dataio::WindowMode::kSequential};
  if (plan.samples_per_epoch() < 1) {
    throw InputError(
        fmt::format("the split {} has {} tokens, fewer than one window of model.seq_len + 1 = {}", split.name,
                    split.tokens, plan.seq_len + 1));
  }
  return {plan, options.data.seed};
}

}  // namespace

StepBenchmark benchmark_steps(const RunOptions& options, const dataio::SplitLayout& split,
                              std::int64_t vocabulary_size, const BenchmarkPlan& plan,
                              parallel::Communicator& world) {
  const dataio::Slicing slicing = slicing_of(options, world);
  const at::ScalarType dtype = options.train.precision == "fp64" ? at::kDouble : at::kFloat;
  dataio::LoaderOptions loader_options;
  loader_options.reader_threads = options.data.reader_threads;
  dataio::Loader loader(
      std::make_shared<dataio::SplitReader>(split, vocabulary_size, dataio::ReaderOptions{}),
      order_of(options, split), slicing, loader_options, 0);
  Replica replica(options.model, vocabulary_size, dtype, ReplicaUse::kTraining,
                  bucket_plan(options.parallel, dtype, world.size()));
  replica.initialise(options.model.seed);
  const auto step = make_train_step(
      replica, {.slicing = slicing, .optim = options.optim, .total_steps = options.train.steps}, world);
  StepBenchmark benchmark{.parameters = replica.parameter_count(),
                          .tokens_per_step = options.train.global_batch * options.model.seq_len,
                          .steps = {}};
  world.barrier();
  for (std::int64_t i = 0; i < plan.warm_up + plan.steps; ++i) {
    const double before = process_cpu_s();
    const StepResult result = run_step(*step, i, loader, [] { return StopWish::kGoOn; });
    if (i >= plan.warm_up) benchmark.steps.push_back({result, process_cpu_s() - before});
  }
  return benchmark;
}

}  // namespace sluice::train
