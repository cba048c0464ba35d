#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "parallel/agree.h"
#include "trainer/cli/bench.h"
#include "trainer/cli/command.h"
#include "trainer/cli/output.h"
#include "trainer/train/checkpoint_benchmark.h"
#include "trainer/train/quantile.h"
#include "trainer/train/scratch_directory.h"
#include "trainer/train/threads.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

const std::vector<Flag> kBenchCheckpointFlags = {
    {.name = "--repeats", .value_name = "N", .help = "checkpoints that are written", .default_value = "5"},
    {.name = "--dir",
     .value_name = "DIR",
     .help = "where to write, in a directory that is removed again; default: that for temporary files"},
    {.name = "--vocabulary", .value_name = "V", .help = "ids of the model", .default_value = "256"},
    json_flag()};

nlohmann::ordered_json summary(const train::RunOptions& options, const train::CheckpointBenchmark& benchmark,
                               std::int64_t ranks) {
  std::vector<double> stall_s;
  std::vector<double> write_s;
  for (const auto& written : benchmark.written) {
    stall_s.push_back(written.stall_s);
    write_s.push_back(written.write_s);
  }
  const auto bytes = static_cast<double>(benchmark.written.back().bytes);
  const double write = train::quantile(write_s, 0.5);
  const double stall = train::quantile(stall_s, 0.5);
  return {{"bench", "checkpoint"},
          {"device", benchmark.device},
          {"ranks", ranks},
          {"zero", options.parallel.zero},
          {"parameters", benchmark.parameters},
          {"bytes", benchmark.written.back().bytes},
          {"repeats", benchmark.written.size()},
          {"setup_s", benchmark.setup_s},
          {"stall_s", stall},
          {"stall_max_s", train::quantile(stall_s, 1)},
          {"copy_bytes_per_s", bytes / stall},
          {"write_s", write},
          {"write_max_s", train::quantile(write_s, 1)},
          {"write_bytes_per_s", bytes / write},
          {"verify_s", train::quantile(benchmark.verify_s, 0.5)},
          {"load_s", train::quantile(benchmark.load_s, 0.5)}};
}

void print_bench_checkpoint(const nlohmann::ordered_json& v) {
  const auto number = [&](const char* key) { return v[key].get<double>(); };
  fmt::print("{} parameters, {} rank(s) on {}, parallel.zero={}: {:.3f} GB a checkpoint, median of {}\n",
             v["parameters"].get<std::int64_t>(), v["ranks"].get<std::int64_t>(),
             v["device"].get<std::string>(), v["zero"].get<std::int64_t>(), number("bytes") / 1e9,
             v["repeats"].get<std::int64_t>());
  fmt::print("stall         {:.4f} s (highest {:.4f}), {:.2f} GB/s\n", number("stall_s"),
             number("stall_max_s"), number("copy_bytes_per_s") / 1e9);
  fmt::print("write         {:.3f} s (highest {:.3f}), {:.2f} GB/s, beside training\n", number("write_s"),
             number("write_max_s"), number("write_bytes_per_s") / 1e9);
  fmt::print("verify        {:.3f} s\nload          {:.3f} s\n", number("verify_s"), number("load_s"));
  fmt::print("set-up        {:.3f} s, for the host memory of a copy\n", number("setup_s"));
}

int run_bench_checkpoint(const std::vector<std::string>& words, parallel::Communicator& world) {
  const BenchWords both = split_words(kBenchCheckpointFlags, words);
  const Arguments arguments(kBenchCheckpointFlags, both.own);
  const train::RunOptions options = bench_options(both.settings);
  const std::int64_t repeats = arguments.integer("--repeats", 1, 1000);
  const std::int64_t vocabulary = arguments.integer("--vocabulary", 2, 1 << 24);
  train::set_compute_threads(options.train.threads, world);
  std::optional<train::ScratchDirectory> place;
  parallel::on_all_ranks(world, [&] {
    if (world.rank() == 0)
      place.emplace("bench",
                    arguments.has("--dir") ? fs::path(arguments.text("--dir")) : fs::temp_directory_path());
  });
  std::optional<train::CheckpointBenchmark> benchmark;
  end_job_on_fault(world, [&] {
    benchmark =
        train::benchmark_checkpoints(options, vocabulary, place ? place->path() : fs::path(), repeats, world);
  });
  if (world.rank() != 0) return kDone;
  const auto values = summary(options, *benchmark, world.size());
  print_result(arguments, values, [&] { print_bench_checkpoint(values); });
  return kDone;
}

}  // namespace

BenchPart bench_checkpoint() {
  return {.name = "checkpoint",
          .summary = "checkpoints: how long training stands still, writing, loading",
          .help =
              "  sluice bench checkpoint [--config FILE...] [--section.key=value ...] [--repeats N] "
              "[--dir DIR] [--json]\n\n"
              "For a model of any settings, alone or under mpirun. stall is the copy of the state to host "
              "memory, all\nthat training waits for; write is digests and files, on a thread. verify reads "
              "every digest again, load\nputs the state where the ranks hold it; both read what the system "
              "may still hold in memory.\n\n" +
              flag_help(kBenchCheckpointFlags),
          .run = run_bench_checkpoint};
}

}  // namespace sluice::cli
