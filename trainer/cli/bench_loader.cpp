#include <fmt/format.h>

#include <cstdio>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "dataio/loader_benchmark.h"
#include "trainer/cli/bench.h"
#include "trainer/cli/command.h"
#include "trainer/cli/open_checkpoint.h"
#include "trainer/cli/output.h"
#include "trainer/train/errors.h"

namespace sluice::cli {
namespace {

constexpr std::int64_t kMost = 1'000'000'000;

const std::vector<Flag> kBenchLoaderFlags = {
    {.name = "--corpus",
     .value_name = "DIR",
     .help = "a directory that sluice prepare wrote",
     .required = true},
    {.name = "--split", .value_name = "NAME", .help = "which part of it", .default_value = "train"},
    {.name = "--seq-len", .value_name = "N", .help = "tokens of a sequence", .default_value = "256"},
    {.name = "--micro-batch",
     .value_name = "B",
     .help = "sequences at once on a rank",
     .default_value = "32"},
    {.name = "--window",
     .value_name = "MODE",
     .help = "sequential or random-offset",
     .default_value = "sequential"},
    {.name = "--seed", .value_name = "S", .help = "of the order", .default_value = "0"},
    {.name = "--reader-threads", .value_name = "N", .help = "reads in flight", .default_value = "16"},
    {.name = "--seconds",
     .value_name = "S",
     .help = "to measure for, after as long a warm-up",
     .default_value = "2"},
    json_flag()};

dataio::LoaderRate measure(const Arguments& arguments, const dataio::Corpus& corpus,
                           parallel::Communicator& world) {
  const auto& split = corpus.split(arguments.text("--split"));
  const std::string window = arguments.choice("--window", {"sequential", "random-offset"});
  const dataio::WindowPlan plan{
      .split_tokens = split.tokens,
      .seq_len = arguments.integer("--seq-len", 1, kMost),
      .mode = window == "sequential" ? dataio::WindowMode::kSequential : dataio::WindowMode::kRandomOffset};
  if (plan.samples_per_epoch() < 1) {
    throw train::InputError(fmt::format("--seq-len = {}: the split {} of {} has {} tokens, a window needs {}",
                                        plan.seq_len, split.name, corpus.directory().string(), split.tokens,
                                        plan.seq_len + 1));
  }
  const std::int64_t micro_batch = arguments.integer("--micro-batch", 1, kMost);
  const dataio::Slicing slicing{.global_batch = micro_batch * world.size(),
                                .micro_batch = micro_batch,
                                .world_size = world.size(),
                                .rank = world.rank()};
  dataio::LoaderOptions options;
  options.reader_threads = arguments.integer("--reader-threads", 1, 4096);
  const auto reader =
      std::make_shared<dataio::SplitReader>(split, corpus.vocabulary_size(), dataio::ReaderOptions{});
  const dataio::Order order(plan, static_cast<std::uint64_t>(arguments.integer(
                                      "--seed", 0, std::numeric_limits<std::int64_t>::max())));
  const double seconds = arguments.number("--seconds", 0.0, 3600.0);
  // The first pass brings files into the page cache and checks their digests.
  (void)dataio::measure_loader(reader, order, slicing, options, seconds);
  world.barrier();
  return dataio::measure_loader(reader, order, slicing, options, seconds);
}

void print_bench_loader(const nlohmann::ordered_json& ranks) {
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const auto& one = ranks[rank];
    fmt::print("rank {:<5} {:.2f} million tokens/s, the consumer waited {:.1f} % of the time\n", rank,
               one["tokens_per_s"].get<double>() / 1e6, 100.0 * one["waited_share"].get<double>());
  }
}

int run_bench_loader(const std::vector<std::string>& words, parallel::Communicator& world) {
  const Arguments arguments(kBenchLoaderFlags, words);
  const auto corpus = open_corpus(arguments.text("--corpus"), world);
  nlohmann::json own;
  end_job_on_fault(world, [&] {
    const auto rate = measure(arguments, corpus, world);
    own = {{"tokens_per_s", rate.tokens_per_s()}, {"waited_share", rate.waited_share()}};
  });
  const auto all = world.all_gather(own.dump());
  if (world.rank() != 0) return kDone;
  nlohmann::ordered_json out = {{"bench", "loader"}, {"ranks", nlohmann::json::array()}};
  for (const std::string& text : all) out["ranks"].push_back(nlohmann::ordered_json::parse(text));
  print_result(arguments, out, [&] { print_bench_loader(out["ranks"]); });
  return kDone;
}

}  // namespace

BenchPart bench_loader() {
  return {.name = "loader",
          .summary = "the loader alone: tokens/s of each rank, and how long its consumer waited",
          .help =
              "  sluice bench loader --corpus DIR [--seq-len N] [--micro-batch B] [--seconds S] [--json]\n\n"
              "The consumer reads each token once. Alone or under mpirun.\n\n" +
              flag_help(kBenchLoaderFlags),
          .run = run_bench_loader};
}

}  // namespace sluice::cli
