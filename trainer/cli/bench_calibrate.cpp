#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "parallel/agree.h"
#include "parallel/device.h"
#include "parallel/link_model.h"
#include "parallel/nccl_communicator.h"
#include "trainer/cli/bench.h"
#include "trainer/cli/calibration.h"
#include "trainer/cli/cluster_file.h"
#include "trainer/cli/command.h"
#include "trainer/cli/output.h"
#include "trainer/cli/plan_products.h"
#include "trainer/cli/plan_workload.h"
#include "trainer/cli/version.h"
#include "trainer/train/errors.h"
#include "trainer/train/files.h"
#include "trainer/train/movers.h"
#include "trainer/train/nodes.h"
#include "trainer/train/peaks.h"
#include "trainer/train/quantile.h"
#include "trainer/train/step_benchmark.h"
#include "trainer/train/synthetic_split.h"
#include "trainer/train/threads.h"

namespace sluice::cli {
namespace {

using study::plan::Cluster;
using study::plan::Exchange;
using study::plan::Hop;
using study::plan::Link;

const std::vector<Flag> kBenchCalibrateFlags = {
    {.name = "--out", .value_name = "FILE", .help = "the cluster file to write", .required = true},
    {.name = "--steps", .value_name = "N", .help = "steps of each of the three runs", .default_value = "20"},
    {.name = "--vocabulary", .value_name = "V", .help = "ids of the random tokens", .default_value = "257"},
    {.name = "--seconds",
     .value_name = "S",
     .help = "for which each product and the copy are repeated",
     .default_value = "0.1"},
    json_flag()};

double mean_over_ranks(parallel::Communicator& world, double own) {
  double sum = 0;
  for (const std::string& text : world.all_gather(nlohmann::json(own).dump()))
    sum += nlohmann::json::parse(text).get<double>();
  return sum / static_cast<double>(world.size());
}

/// What the three runs have in common.
struct Bench {
  train::RunOptions options;
  std::int64_t vocabulary_size;
  std::int64_t steps;
  parallel::Communicator& world;
  train::DeviceGroup& group;
  std::vector<double> spread = {};  ///< of all ranks
  std::optional<train::StepBenchmark> first = {};
};

/// Of forward and backward of everybody's steps.
void add_spread(const train::StepBenchmark& benchmark, Bench& bench) {
  std::vector<double> own;
  for (const auto& step : benchmark.steps) own.push_back(step.result.forward_s + step.result.backward_s);
  std::vector<std::vector<double>> all;
  for (const std::string& text : bench.world.all_gather(nlohmann::json(own).dump()))
    all.push_back(nlohmann::json::parse(text).get<std::vector<double>>());
  const auto spread = spread_of_ranks(std::move(all));
  bench.spread.insert(bench.spread.end(), spread.begin(), spread.end());
}

MeasuredSteps measure_steps(Bench& bench, std::int64_t micro_batch, std::int64_t micro_batches) {
  constexpr std::int64_t kWarmUp = 5;
  MeasuredSteps measured{.options = bench.options, .micro_batches = micro_batches};
  measured.options.train.micro_batch = micro_batch;
  measured.options.train.global_batch = micro_batch * micro_batches * bench.world.size();
  std::optional<train::SyntheticSplit> split;
  parallel::on_all_ranks(bench.world, [&] {
    const std::int64_t windows = std::max<std::int64_t>(64, 2 * measured.options.train.global_batch);
    split.emplace(windows * bench.options.model.seq_len + 1, bench.vocabulary_size);
  });
  auto benchmark = train::benchmark_steps(measured.options, split->layout(), bench.vocabulary_size,
                                          {.warm_up = kWarmUp, .steps = bench.steps}, bench.group);
  std::vector<train::StepResult> steps;
  for (const auto& step : benchmark.steps) steps.push_back(step.result);
  const StepCauses own = middling_step(std::move(steps));
  for (const auto cause : {&StepCauses::forward_s, &StepCauses::backward_s, &StepCauses::comm_exposed_s,
                           &StepCauses::optimizer_s, &StepCauses::other_s, &StepCauses::step_s})
    measured.step.*cause = mean_over_ranks(bench.world, own.*cause);
  add_spread(benchmark, bench);
  if (!bench.first) bench.first = std::move(benchmark);
  return measured;
}

Calibration measure_runs(Bench& bench) {
  const std::int64_t batch = bench.options.train.micro_batch;
  Calibration measured{.vocabulary_size = bench.vocabulary_size,
                       .ranks = bench.world.size(),
                       .once = measure_steps(bench, batch, 1),
                       .twice = measure_steps(bench, batch, 2),
                       .half = {}};
  if (batch > 1) measured.half = measure_steps(bench, batch / 2, 2);
  return measured;
}

/// The model's own products, and cubes around them. All ranks multiply at once, as they train.
std::vector<TimedProduct> time_products(const Bench& bench, double seconds) {
  const at::Device device = bench.group.device();
  std::vector<kernels::GemmShape> shapes;
  for (const ProductKind& kind : product_kinds(bench.options, bench.vocabulary_size))
    shapes.push_back(kind.shape);
  const std::vector<std::int64_t> edges = device.is_cpu() ? std::vector<std::int64_t>{128, 256, 512, 1024}
                                                          : std::vector<std::int64_t>{1024, 2048, 4096, 8192};
  for (const std::int64_t edge : edges) shapes.push_back({edge, edge, edge});
  std::vector<TimedProduct> timed;
  for (const kernels::GemmShape& shape : shapes) {
    bench.world.barrier();
    const auto rate =
        kernels::measure_gemm(train::arithmetic_of(bench.options.train.precision), shape, device, seconds);
    timed.push_back(
        {.shape = shape, .seconds = mean_over_ranks(bench.world, shape.flops() / rate.flops_per_s)});
  }
  return timed;
}

Hop measure_hop(parallel::Communicator& ranks, at::Device device, parallel::Collective collective,
                Exchange exchange) {
  constexpr std::int64_t kBatches = 5;
  std::vector<parallel::TimedExchange> timed;
  const std::int64_t most = device.is_cuda() ? 1 << 28 : 1 << 24;
  for (std::int64_t bytes = 1 << 14; bytes <= most; bytes *= 8)
    timed.push_back(
        {bytes, train::quantile(parallel::time_collective(ranks, device, collective, bytes, kBatches), 0.5)});
  const auto line = parallel::fit_link(timed);
  return study::plan::hop_of(exchange, study::plan::Algorithm::kRing, ranks.size(), line.latency_s,
                             line.s_per_byte);
}

Link measure_link_of(parallel::Communicator& host, at::Device device) {
  std::unique_ptr<parallel::Communicator> gpus;
  if (device.is_cuda()) gpus = parallel::make_nccl_communicator(host, device);
  parallel::Communicator& ranks = gpus ? *gpus : host;
  return {.all_reduce = measure_hop(ranks, device, parallel::Collective::kAllReduce, Exchange::kAllReduce),
          .reduce_scatter =
              measure_hop(ranks, device, parallel::Collective::kReduceScatter, Exchange::kReduceScatter),
          .all_gather = measure_hop(ranks, device, parallel::Collective::kAllGather, Exchange::kAllGather)};
}

/// Every node's ranks by themselves, then the ranks of each place on all nodes, all such groups at once.
void measure_links(parallel::Communicator& world, at::Device device, Cluster& cluster) {
  const parallel::Place place = parallel::find_place(world);
  cluster.links.ranks_per_node = place.local_size;
  const std::vector<train::NodeRanks> nodes = train::ranks_by_node(world);
  const auto mine = std::ranges::find_if(
      nodes, [&](const train::NodeRanks& one) { return std::ranges::count(one.ranks, world.rank()) > 0; });
  const auto node = world.split(mine - nodes.begin());
  if (node->size() > 1) cluster.links.node = measure_link_of(*node, device);
  const auto across = world.split(place.local_rank);
  if (across->size() > 1) cluster.links.network = measure_link_of(*across, device);
}

/// Of a GPU without what the allocator held beside what it gave out.
double memory_of_rank(at::Device device, const parallel::DeviceMemory& peak, std::int64_t ranks_of_node) {
  if (device.is_cuda())
    return static_cast<double>(parallel::gpu_info(device).memory_bytes - peak.reserved_peak +
                               peak.allocated_peak);
  const double bytes =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  return bytes / static_cast<double>(ranks_of_node);
}

Cluster calibrate(Bench& bench, double seconds, Calibration& measured) {
  const at::Device device = bench.group.device();
  Cluster cluster;
  cluster.measured_ranks = bench.world.size();
  measured = measure_runs(bench);  // first: what follows takes memory too
  study::plan::Device& gpu = cluster.gpu;
  gpu.name = bench.group.name();
  gpu.kind = device.is_cuda() ? "cuda" : "cpu";
  gpu.precision = bench.options.train.precision;
  gpu.copy_bytes_per_s = mean_over_ranks(
      bench.world, kernels::measure_copy(device.is_cuda() ? 1 << 30 : 1 << 27, device, seconds));
  const double element_bytes = gpu.precision == "bf16" ? 2 : gpu.precision == "fp64" ? 8 : 4;
  fit_products(time_products(bench, seconds), element_bytes, gpu);
  measure_links(bench.world, device, cluster);
  gpu.memory_bytes = memory_of_rank(device, bench.first->memory, cluster.links.ranks_per_node);
  gpu.peak_flops_per_s = bench.first->peaks.measured.value_or(0);
  gpu.power_w = bench.first->metrics.power_w.value_or(0);
  constexpr std::int64_t kSamples = 64;
  gpu.spread = thinned(bench.spread, kSamples);
  fit_steps(measured, cluster);
  const auto work = plan_workload(measured.once.options, measured.vocabulary_size, measured.ranks, cluster);
  gpu.memory_overhead_bytes =
      std::max(0.0, static_cast<double>(bench.first->memory.allocated_peak) - work.memory_bytes);
  return cluster;
}

std::string head_text(const Bench& bench, const Calibration& measured) {
  const auto& o = bench.options;
  const std::string version = version_text();
  return fmt::format(
      "Written by sluice bench calibrate on {} rank(s): {}, {}.\n"
      "Real steps of: {} of {} layers, d_model {}, d_ffn {}, {} positions, {} ids, micro-batch {}: {:.3f} ms "
      "a "
      "step.\n{}\n"
      "For `sluice plan --cluster`; another file may say `include = THIS` and its own [link.network] and "
      "[cost].",
      measured.ranks, bench.group.name(), o.train.precision, o.model.kind, o.model.layers, o.model.d_model,
      o.model.d_ffn, o.model.seq_len, measured.vocabulary_size, o.train.micro_batch,
      1e3 * measured.once.step.step_s, version.substr(0, version.find('\n')));
}

nlohmann::ordered_json result_json(const std::string& out, const Calibration& measured,
                                   const Cluster& cluster) {
  const auto predicted = [&](const MeasuredSteps& steps) {
    return predicted_step(steps.options, measured.vocabulary_size, measured.ranks, cluster).step_s;
  };
  return {{"bench", "calibrate"},
          {"out", out},
          {"ranks", measured.ranks},
          {"once_s", {{"measured", measured.once.step.step_s}, {"predicted", predicted(measured.once)}}},
          {"twice_s", {{"measured", measured.twice.step.step_s}, {"predicted", predicted(measured.twice)}}}};
}

int run_bench_calibrate(const std::vector<std::string>& words, parallel::Communicator& world) {
  const BenchWords both = split_words(kBenchCalibrateFlags, words);
  const Arguments arguments(kBenchCalibrateFlags, both.own);
  train::RunOptions options = bench_options(both.settings);
  if (options.parallel.sp > 1)
    throw train::InputError(
        fmt::format("parallel.sp = {}: sluice bench calibrate takes 1", options.parallel.sp));
  const double seconds = arguments.number("--seconds", 1e-3, 100);
  (void)train::set_compute_threads(options.train.threads, world);
  const std::int64_t vocabulary = arguments.integer("--vocabulary", 2, 1 << 24);
  train::DeviceGroup group(options.train.device, world);
  train::connect_ranks(group, options, vocabulary);
  Bench bench{.options = options,
              .vocabulary_size = vocabulary,
              .steps = arguments.integer("--steps", 3, 1'000'000),
              .world = world,
              .group = group};
  Calibration measured;
  Cluster cluster;
  end_job_on_fault(group.exchange(), [&] { cluster = calibrate(bench, seconds, measured); });
  if (world.rank() != 0) return kDone;
  const std::string out = arguments.text("--out");
  train::replace_file(out, cluster_text(cluster, head_text(bench, measured)));
  const auto values = result_json(out, measured, cluster);
  print_result(arguments, values, [&] {
    fmt::print("{} written: {} rank(s)\n", out, measured.ranks);
    for (const char* which : {"once_s", "twice_s"})
      fmt::print("step of {} micro-batch{}: measured {:.3f} ms, predicted {:.3f} ms\n",
                 which == std::string("once_s") ? 1 : 2, which == std::string("once_s") ? "" : "es",
                 1e3 * values[which]["measured"].get<double>(),
                 1e3 * values[which]["predicted"].get<double>());
  });
  return kDone;
}

}  // namespace

BenchPart bench_calibrate() {
  return {.name = "calibrate",
          .summary = "all that sluice plan needs of a machine, into a file",
          .help =
              "  sluice bench calibrate --out FILE [--config FILE...] [--section.key=value ...] [--json]\n"
              "  sluice bench --calibrate FILE ...   the same\n\n"
              "Alone or under mpirun. Times products of the model's shapes and cubes, copies, collectives by "
              "size on each\nlevel of links, and real steps of [model] with one and two micro-batches of "
              "train.micro_batch sequences, and\ntwo of half. All ranks measure at once. What becomes of it: "
              "docs/plan.md.\n\n" +
              flag_help(kBenchCalibrateFlags),
          .run = run_bench_calibrate};
}

}  // namespace sluice::cli
