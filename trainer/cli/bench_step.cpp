#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "parallel/agree.h"
#include "trainer/cli/bench.h"
#include "trainer/cli/command.h"
#include "trainer/cli/open_checkpoint.h"
#include "trainer/cli/output.h"
#include "trainer/train/corpus_list.h"
#include "trainer/train/errors.h"
#include "trainer/train/exchange_choice.h"
#include "trainer/train/movers.h"
#include "trainer/train/quantile.h"
#include "trainer/train/step_benchmark.h"
#include "trainer/train/synthetic_split.h"
#include "trainer/train/threads.h"

namespace sluice::cli {
namespace {

const std::vector<Flag> kBenchStepFlags = {
    {.name = "--steps", .value_name = "N", .help = "steps that are measured", .default_value = "20"},
    {.name = "--warmup", .value_name = "N", .help = "steps before them", .default_value = "3"},
    {.name = "--vocabulary",
     .value_name = "V",
     .help = "ids of the random tokens, where data.corpus is not given",
     .default_value = "256"},
    {.name = "--profile",
     .value_name = "FILE",
     .help = "a trace of three steps on rank 0, for Perfetto or TensorBoard; with {rank} in its name one of "
             "every rank; it slows them"},
    {.name = "--null-exchange",
     .help = "steps in which each exchange between ranks is a local copy, and no others: a rank's own work, "
             "at its own pace (comm_exposed: the copies of gradients)"},
    {.name = "--real-exchange",
     .help = "with parallel.sp: no such steps after the real ones, and so no time that exchanges cost"},
    json_flag()};

struct Phase {
  const char* name;
  double (*seconds)(const train::StepResult& result);
};

constexpr std::array<Phase, 6> kPhases = {
    {{"data_wait", [](const train::StepResult& r) { return r.data_wait_s; }},
     {"forward", [](const train::StepResult& r) { return r.forward_s; }},
     {"backward", [](const train::StepResult& r) { return r.backward_s; }},
     {"comm_exposed", [](const train::StepResult& r) { return r.comm_exposed_s; }},
     {"optimizer", [](const train::StepResult& r) { return r.optimizer_s; }},
     {"other", train::other_s}}};

/// Medians of one rank: the phases, then CPU time.
nlohmann::json medians(const train::StepBenchmark& benchmark) {
  nlohmann::json out = nlohmann::json::array();
  for (const auto& phase : kPhases) {
    std::vector<double> values;
    for (const auto& step : benchmark.steps) values.push_back(phase.seconds(step.result));
    out.push_back(train::quantile(values, 0.5));
  }
  std::vector<double> cpu;
  for (const auto& step : benchmark.steps) cpu.push_back(step.cpu_s);
  out.push_back(train::quantile(cpu, 0.5));
  return out;
}

/// Every rank's numbers: [what][rank].
std::vector<std::vector<double>> of_ranks(const nlohmann::json& own, parallel::Communicator& world) {
  std::vector<std::vector<double>> all(own.size());
  for (const std::string& text : world.all_gather(own.dump())) {
    const auto values = nlohmann::json::parse(text).get<std::vector<double>>();
    for (std::size_t i = 0; i < all.size(); ++i) all[i].push_back(values[i]);
  }
  return all;
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

nlohmann::ordered_json summary(const train::RunOptions& options, const train::StepBenchmark& benchmark,
                               std::int64_t threads, parallel::Communicator& world) {
  const auto by_rank = of_ranks(medians(benchmark), world);
  std::vector<double> steps;
  for (const auto& step : benchmark.steps) steps.push_back(step.result.step_s);
  const auto tokens = static_cast<double>(benchmark.tokens_per_step);
  const double median = train::quantile(steps, 0.5);
  const double cpu = mean(by_rank[kPhases.size()]);
  nlohmann::ordered_json phases;
  nlohmann::ordered_json phases_by_rank;
  for (std::size_t i = 0; i < kPhases.size(); ++i) {
    phases[kPhases[i].name] = mean(by_rank[i]);
    phases_by_rank[kPhases[i].name] = by_rank[i];
  }
  return {{"bench", "step"},
          {"ranks", world.size()},
          {"threads", threads},
          {"precision", options.train.precision},
          {"parameters", benchmark.parameters},
          {"tokens_per_step", benchmark.tokens_per_step},
          {"steps", steps.size()},
          {"tokens_per_s", tokens / median},
          {"tokens_per_cpu_s", tokens / (cpu * static_cast<double>(world.size()))},
          {"step_s",
           {{"median", median},
            {"p10", train::quantile(steps, 0.1)},
            {"p90", train::quantile(steps, 0.9)},
            {"min", train::quantile(steps, 0.0)},
            {"max", train::quantile(steps, 1.0)},
            {"all", steps}}},
          {"step_cpu_s", cpu},
          {"phases_s", phases},
          {"phases_by_rank_s", phases_by_rank}};
}

nlohmann::ordered_json or_null(const std::optional<double>& value, double scale = 1) {
  return value ? nlohmann::ordered_json(scale * *value) : nlohmann::ordered_json(nullptr);
}

/// What a device gave and took, beside speed: rank 0's, but the highest memory of any rank.
void add_device(const train::StepBenchmark& benchmark, parallel::Communicator& world,
                nlohmann::ordered_json& values) {
  constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
  const auto bytes = of_ranks({benchmark.memory.allocated_peak, benchmark.memory.reserved_peak}, world);
  const double allocated = std::ranges::max(bytes[0]);
  const double reserved = std::ranges::max(bytes[1]);
  const train::StepMetrics& metrics = benchmark.metrics;
  values["device"] = benchmark.peaks.device;
  values["tokens_per_s_per_gpu"] = metrics.tokens_per_s_per_gpu;
  values["tflops"] = 1e-12 * metrics.flops_per_s;
  values["peak_tflops"] = or_null(benchmark.peaks.measured, 1e-12);
  values["datasheet_tflops"] = or_null(benchmark.peaks.datasheet, 1e-12);
  values["mfu"] = or_null(metrics.mfu);
  values["hfu"] = or_null(metrics.hfu);
  values["mfu_datasheet"] = or_null(metrics.mfu_datasheet);
  values["memory"] = {{"peak_gib", allocated / kGiB}, {"reserved_peak_gib", reserved / kGiB}};
  values["power_w"] = or_null(metrics.power_w);
  values["energy_per_token_j"] = or_null(metrics.energy_per_token_j);
  values["start_to_first_step_s"] = benchmark.start_to_first_step_s;
  values["tuned_products"] = benchmark.tuned_products;
  values["tuning_s"] = benchmark.tuning_s;
}

void print_device(const nlohmann::ordered_json& v) {
  const auto percent = [](const nlohmann::ordered_json& share) { return 100.0 * share.get<double>(); };
  fmt::print("{}: {:.0f} tokens/s each, {:.3f} useful TFLOP/s", v["device"].get<std::string>(),
             v["tokens_per_s_per_gpu"].get<double>(), v["tflops"].get<double>());
  if (!v["mfu"].is_null())
    fmt::print(": MFU {:.1f} %, HFU {:.1f} % of the {:.3f} TFLOP/s measured", percent(v["mfu"]),
               percent(v["hfu"]), v["peak_tflops"].get<double>());
  if (!v["mfu_datasheet"].is_null())
    fmt::print(", MFU {:.1f} % of the data sheet's {:.0f}", percent(v["mfu_datasheet"]),
               v["datasheet_tflops"].get<double>());
  fmt::print("\npeak memory   {:.2f} GiB ({:.2f} reserved); first step done {:.1f} s after the start\n",
             v["memory"]["peak_gib"].get<double>(), v["memory"]["reserved_peak_gib"].get<double>(),
             v["start_to_first_step_s"].get<double>());
  if (v["tuned_products"].get<std::int64_t>() > 0)
    fmt::print("products      algorithms of {} chosen by timing in {:.2f} s\n",
               v["tuned_products"].get<std::int64_t>(), v["tuning_s"].get<double>());
  if (!v["energy_per_token_j"].is_null())
    fmt::print("power         {:.0f} W, {:.3f} mJ a token\n", v["power_w"].get<double>(),
               1e3 * v["energy_per_token_j"].get<double>());
}

/// What exchanges between ranks cost a step that does not hide them: the step against one whose exchanges are
/// local copies.
nlohmann::ordered_json exchange_of(double step_s, const train::StepBenchmark& without) {
  std::vector<double> steps;
  for (const auto& step : without.steps) steps.push_back(step.result.step_s);
  const double null_s = train::quantile(steps, 0.5);
  return {{"null_step_s", null_s},
          {"exposed_s", std::max(0.0, step_s - null_s)},
          {"exposed_share", std::max(0.0, 1 - null_s / step_s)},
          {"efficiency", null_s / step_s}};
}

void print_exchange(const nlohmann::ordered_json& v) {
  if (!v.contains("exchange")) return;
  const auto& exchange = v["exchange"];
  fmt::print(
      "exchange      {:.2f} ms exposed, {:.1f} % of the step; with local copies in its place {:.2f} ms a "
      "step: efficiency {:.3f}\n",
      1e3 * exchange["exposed_s"].get<double>(), 100 * exchange["exposed_share"].get<double>(),
      1e3 * exchange["null_step_s"].get<double>(), exchange["efficiency"].get<double>());
  if (!exchange.contains("predicted")) return;
  for (const auto& [mode, seconds] : exchange["predicted"].items()) {
    const auto ms = [&seconds = seconds](const char* part) { return 1e3 * seconds[part].get<double>(); };
    fmt::print(
        "{:<14}{}: exchange {:.2f} ms, products over positions {:.2f}, sum of W's gradient {:.2f}, its "
        "update "
        "{:.2f}; {:.2f} in all\n",
        "predicted", mode, ms("exchange_s"), ms("product_s"), ms("gradient_s"), ms("update_s"),
        ms("total_s"));
  }
}

/// By mode, of all layers and micro-batches of a step; "exchange_s" is what "exposed_s" measures.
nlohmann::ordered_json predicted(const train::RunOptions& options, std::int64_t ranks,
                                 const std::vector<train::ExchangePrediction>& predictions) {
  const auto layers =
      static_cast<double>(options.model.layers * train::exchange_shape(options, ranks).micro_batches);
  nlohmann::ordered_json out;
  for (const train::ExchangePrediction& one : predictions)
    out[train::exchange_name(one.mode)] = {{"total_s", layers * one.total_s()},
                                           {"exchange_s", layers * one.exchange_s},
                                           {"product_s", layers * one.product_s},
                                           {"gradient_s", layers * one.gradient_s},
                                           {"update_s", layers * one.update_s}};
  return out;
}

void print_bench_step(const nlohmann::ordered_json& v) {
  const auto ms = [](const nlohmann::ordered_json& value) { return 1e3 * value.get<double>(); };
  const auto& step = v["step_s"];
  fmt::print("{} parameters, {} tokens a step, {} rank(s) of {} thread(s), {}\n",
             v["parameters"].get<std::int64_t>(), v["tokens_per_step"].get<std::int64_t>(),
             v["ranks"].get<std::int64_t>(), v["threads"].get<std::int64_t>(),
             v["precision"].get<std::string>());
  if (const auto way = v["moved_by"].get<std::string>(); !way.empty()) fmt::print("exchange      {}\n", way);
  fmt::print("tokens/s      {:.0f}   (per second of CPU time {:.0f})\n", v["tokens_per_s"].get<double>(),
             v["tokens_per_cpu_s"].get<double>());
  fmt::print(
      "step          {:.2f} ms median of {}; 10 % below {:.2f}, 10 % above {:.2f}, {:.2f} ... {:.2f}\n",
      ms(step["median"]), v["steps"].get<std::int64_t>(), ms(step["p10"]), ms(step["p90"]), ms(step["min"]),
      ms(step["max"]));
  for (const auto& [name, seconds] : v["phases_s"].items())
    fmt::print("{:<14}{:.2f} ms   {:.1f} %\n", name, ms(seconds),
               100.0 * seconds.get<double>() / step["median"].get<double>());
  print_exchange(v);
  print_device(v);
}

int run_bench_step(const std::vector<std::string>& words, parallel::Communicator& world) {
  const BenchWords both = split_words(kBenchStepFlags, words);
  const Arguments arguments(kBenchStepFlags, both.own);
  train::RunOptions options = bench_options(both.settings);
  const bool null_alone = arguments.has("--null-exchange");
  train::BenchmarkPlan plan{.warm_up = arguments.integer("--warmup", 0, 1'000'000),
                            .steps = arguments.integer("--steps", 1, 1'000'000),
                            .profile = arguments.text("--profile")};
  if (null_alone) plan.exchanging = train::Exchanging::kWithNobody;
  std::int64_t vocabulary = arguments.integer("--vocabulary", 2, 1 << 24);
  const std::int64_t threads = train::set_compute_threads(options.train.threads, world);
  std::optional<train::SyntheticSplit> synthetic;
  dataio::SplitLayout split;
  if (options.data.corpus.empty()) {
    const std::int64_t windows = std::max<std::int64_t>(64, 2 * options.train.global_batch);
    parallel::on_all_ranks(world,
                           [&] { synthetic.emplace(windows * options.model.seq_len + 1, vocabulary); });
    split = synthetic->layout();
  } else {
    const train::CorpusList list = train::parse_corpora(options.data.corpus);
    if (list.parts.size() > 1) {
      throw train::InputError(
          fmt::format("data.corpus = {}: sluice bench step reads one corpus, name one", options.data.corpus));
    }
    const auto corpus = open_corpus(list.parts.front().path, world);
    split = corpus.split("train");
    vocabulary = corpus.vocabulary_size();
  }
  train::DeviceGroup group(options.train.device, world);
  train::connect_ranks(group, options, vocabulary);
  std::optional<train::StepBenchmark> benchmark;
  std::vector<train::ExchangePrediction> predictions;
  end_job_on_fault(group.exchange(), [&] {
    predictions = train::measure_predictions(options, group);
    if (options.parallel.sp_mode == "auto" && !predictions.empty())
      options.parallel.sp_mode = train::exchange_name(train::cheapest(predictions).mode);
  });
  end_job_on_fault(group.exchange(),
                   [&] { benchmark = train::benchmark_steps(options, split, vocabulary, plan, group); });
  auto values = summary(options, *benchmark, threads, world);
  values["device_kind"] = group.device().is_cuda() ? "cuda" : "cpu";
  values["moved_by"] = train::moved_by(group.exchange());
  values["sp"] = options.parallel.sp;
  if (options.parallel.sp > 1) values["sp_mode"] = train::exchange_name(train::exchange_mode(options));
  values["null_exchange"] = null_alone;
  add_device(*benchmark, world, values);
  if (options.parallel.sp > 1 && !null_alone && !arguments.has("--real-exchange")) {
    plan.exchanging = train::Exchanging::kWithNobody;
    std::optional<train::StepBenchmark> without;
    end_job_on_fault(group.exchange(),
                     [&] { without = train::benchmark_steps(options, split, vocabulary, plan, group); });
    values["exchange"] = exchange_of(values["step_s"]["median"].get<double>(), *without);
    if (!predictions.empty()) values["exchange"]["predicted"] = predicted(options, world.size(), predictions);
  }
  if (world.rank() != 0) return kDone;
  print_result(arguments, values, [&] { print_bench_step(values); });
  return kDone;
}

}  // namespace

BenchPart bench_step() {
  return {.name = "step",
          .summary = "a training step: tokens/s, its spread, and time by phase",
          .help =
              "  sluice bench step [--config FILE...] [--section.key=value ...] [--steps N] [--warmup N] "
              "[--json]\n\n"
              "Takes every setting of sluice train; without data.corpus the tokens are random. Alone or "
              "under mpirun.\n"
              "Phases are medians over the steps, means over the ranks; the step is rank 0's.\n"
              "With parallel.sp what exchanges between ranks cost is the difference to as many steps in "
              "which each is "
              "a local copy.\n"
              "MFU counts the model's FLOPs, HFU those executed, both of the measured peak (sluice bench "
              "peak).\n\n" +
              flag_help(kBenchStepFlags),
          .run = run_bench_step};
}

}  // namespace sluice::cli
