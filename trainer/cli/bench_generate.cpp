#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "trainer/cli/bench.h"
#include "trainer/cli/command.h"
#include "trainer/cli/open_checkpoint.h"
#include "trainer/cli/output.h"
#include "trainer/train/errors.h"
#include "trainer/train/generate.h"
#include "trainer/train/generate_benchmark.h"
#include "trainer/train/replica.h"
#include "trainer/train/threads.h"

namespace sluice::cli {
namespace {

const std::vector<Flag> kBenchGenerateFlags = {
    {.name = "--checkpoint",
     .value_name = "DIR",
     .help = "a model to measure; else one of the [model] settings, untrained"},
    {.name = "--vocabulary",
     .value_name = "V",
     .help = "its ids, where no checkpoint is given",
     .default_value = "256"},
    {.name = "--slide", .value_name = "K", .help = "as in sluice generate; default n / 4"},
    json_flag()};

std::unique_ptr<train::Replica> make_replica(const Arguments& arguments, const train::RunOptions& options,
                                             parallel::Communicator& world) {
  if (arguments.has("--checkpoint")) {
    const auto checkpoint = open_checkpoint(arguments.text("--checkpoint"), world);
    check_generates(checkpoint.model, checkpoint.directory.string());
    return train::load_replica(checkpoint, at::kFloat);
  }
  check_generates(options.model, "sluice bench generate");
  auto replica =
      std::make_unique<train::Replica>(options.model, arguments.integer("--vocabulary", 2, 1 << 24),
                                       at::kFloat, train::ReplicaUse::kInference);
  replica->initialise(options.model.seed);
  return replica;
}

int run_bench_generate(const std::vector<std::string>& words, parallel::Communicator& world) {
  if (world.size() > 1) {
    throw train::InputError(
        fmt::format("sluice bench generate: runs as one process, and was started as {}: leave mpirun away",
                    world.size()));
  }
  const BenchWords both = split_words(kBenchGenerateFlags, words);
  const Arguments arguments(kBenchGenerateFlags, both.own);
  const train::RunOptions options = bench_options(both.settings);
  const std::int64_t threads = train::set_compute_threads(options.train.threads, world);
  const auto replica = make_replica(arguments, options, world);
  const std::int64_t seq_len = replica->options().seq_len;
  const std::int64_t slide =
      arguments.has("--slide") ? arguments.integer("--slide", 1, seq_len) : train::default_slide(seq_len);
  const auto rates =
      train::benchmark_generation(replica->model(), seq_len, replica->vocabulary_size(), slide);
  const nlohmann::ordered_json values = {{"bench", "generate"},
                                         {"threads", threads},
                                         {"parameters", replica->parameter_count()},
                                         {"seq_len", seq_len},
                                         {"incremental_tokens_per_s", rates.incremental},
                                         {"full_tokens_per_s", rates.full},
                                         {"slide", rates.slide},
                                         {"sliding_tokens_per_s", rates.sliding}};
  print_result(arguments, values, [&] {
    fmt::print("{} parameters, {} positions, {} thread(s)\n", replica->parameter_count(), seq_len, threads);
    fmt::print("incremental   {:.0f} tokens/s\n", rates.incremental);
    fmt::print("full forward  {:.0f} tokens/s, {:.1f} times slower\n", rates.full,
               rates.incremental / rates.full);
    fmt::print("past n        {:.0f} tokens/s, sliding by {}\n", rates.sliding, rates.slide);
  });
  return kDone;
}

}  // namespace

BenchPart bench_generate() {
  return {.name = "generate",
          .summary = "generation: incremental decode beside a full forward for each token",
          .help = "  sluice bench generate [--checkpoint DIR|RUN] [--model.key=value ...] [--json]\n\n" +
                  flag_help(kBenchGenerateFlags),
          .run = run_bench_generate};
}

}  // namespace sluice::cli
