#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "parallel/device.h"
#include "parallel/link_model.h"
#include "parallel/nccl_communicator.h"
#include "trainer/cli/bench.h"
#include "trainer/cli/command.h"
#include "trainer/cli/output.h"
#include "trainer/train/errors.h"
#include "trainer/train/quantile.h"

namespace sluice::cli {
namespace {

using parallel::Collective;

const std::vector<Collective> kOfGradients = {Collective::kAllReduce, Collective::kAllGather,
                                              Collective::kReduceScatter};
/// Those of ranks that share sequences (parallel.sp).
const std::vector<Collective> kOfSequences = {Collective::kAllGather, Collective::kReduceScatter,
                                              Collective::kAllToAll, Collective::kNeighbour};
constexpr std::int64_t kMostBytes = std::int64_t{1} << 34;

const std::vector<Flag> kBenchAllreduceFlags = {
    {.name = "--device", .value_name = "NAME", .help = "auto, cpu or cuda", .default_value = "auto"},
    {.name = "--sizes",
     .value_name = "BYTES",
     .help = "sizes of the tensor, as 4K 64K 1M 1G; default 4K to 16M on the CPU, to 1G on GPUs",
     .many = true},
    {.name = "--batches", .value_name = "N", .help = "timed batches of each size", .default_value = "10"},
    json_flag()};

std::int64_t parse_bytes(const std::string& text) {
  constexpr std::string_view kSuffixes = "KMG";
  std::size_t digits = 0;
  while (digits < text.size() && digits < 12 && text[digits] >= '0' && text[digits] <= '9') ++digits;
  std::int64_t bytes = digits == 0 ? 0 : std::stoll(text.substr(0, digits));
  bool good = bytes > 0;
  if (digits < text.size()) {
    const std::size_t suffix = kSuffixes.find(text[digits]);
    good = good && digits + 1 == text.size() && suffix != std::string_view::npos;
    for (std::size_t i = 0; good && i <= suffix; ++i) bytes *= 1024;
  }
  if (!good || bytes > kMostBytes)
    throw train::InputError("--sizes " + text + ": allowed are 1 to 16G bytes, as 4096, 64K, 1M or 1G");
  return bytes;
}

std::vector<std::int64_t> sizes_of(const Arguments& arguments, at::Device device) {
  std::vector<std::int64_t> sizes;
  for (const std::string& text : arguments.list("--sizes")) sizes.push_back(parse_bytes(text));
  if (!sizes.empty()) return sizes;
  for (std::int64_t bytes = 4096; bytes <= (device.is_cuda() ? 1 << 30 : 1 << 24); bytes *= 4)
    sizes.push_back(bytes);
  return sizes;
}

nlohmann::ordered_json measure(parallel::Communicator& ranks, at::Device device,
                               const std::vector<Collective>& collectives,
                               const std::vector<std::int64_t>& sizes, std::int64_t batches) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const Collective collective : collectives) {
    for (const std::int64_t bytes : sizes) {
      const double median =
          train::quantile(parallel::time_collective(ranks, device, collective, bytes, batches), 0.5);
      const double rate = static_cast<double>(bytes) / median / 1e9;
      rows.push_back({{"collective", parallel::collective_name(collective)},
                      {"bytes", bytes},
                      {"median_s", median},
                      {"algbw_gb_s", rate},
                      {"busbw_gb_s", rate * parallel::bus_factor(collective, ranks.size())}});
    }
  }
  return rows;
}

void print_bench_allreduce(const nlohmann::ordered_json& v) {
  fmt::print("{} ranks, {}, {}\n{:<16}{:>12}{:>12}{:>14}{:>14}\n", v["ranks"].get<std::int64_t>(),
             v["communicator"].get<std::string>(), v["device"].get<std::string>(), "collective", "bytes",
             "us", "algbw GB/s", "busbw GB/s");
  for (const auto& row : v["rows"])
    fmt::print("{:<16}{:>12}{:>12.1f}{:>14.2f}{:>14.2f}\n", row["collective"].get<std::string>(),
               row["bytes"].get<std::int64_t>(), 1e6 * row["median_s"].get<double>(),
               row["algbw_gb_s"].get<double>(), row["busbw_gb_s"].get<double>());
  if (!v.contains("link")) return;
  fmt::print("all_reduce of b bytes: {:.1f} us + b / {:.2f} GB/s\n",
             1e6 * v["link"]["latency_s"].get<double>(), 1e-9 / v["link"]["s_per_byte"].get<double>());
}

/// One of the two benchmarks of collectives.
struct Benchmark {
  const char* name;
  const std::vector<Collective>& collectives;
};

int run_bench_allreduce(const Benchmark& benchmark, const std::vector<std::string>& words,
                        parallel::Communicator& world) {
  const Arguments arguments(kBenchAllreduceFlags, words);
  const std::string name = arguments.choice("--device", {"auto", "cpu", "cuda"});
  const std::int64_t batches = arguments.integer("--batches", 1, 100'000);
  for (const std::string& text : arguments.list("--sizes")) (void)parse_bytes(text);
  if (world.size() == 1)
    throw train::InputError(
        fmt::format("sluice bench {}: one rank exchanges nothing; start it by mpirun -n 2", benchmark.name));
  const auto choice = name == "cpu"    ? parallel::DeviceChoice::kCpu
                      : name == "cuda" ? parallel::DeviceChoice::kCuda
                                       : parallel::DeviceChoice::kAuto;
  const at::Device device = parallel::choose_device(choice, parallel::find_place(world), world);
  std::unique_ptr<parallel::Communicator> gpus;
  if (device.is_cuda()) gpus = parallel::make_nccl_communicator(world, device);
  parallel::Communicator& ranks = gpus ? *gpus : world;
  nlohmann::ordered_json out;
  end_job_on_fault(ranks, [&] {
    const auto rows = measure(ranks, device, benchmark.collectives, sizes_of(arguments, device), batches);
    out = {{"bench", benchmark.name},
           {"ranks", ranks.size()},
           {"communicator", ranks.name()},
           {"device", parallel::device_name(device)}};
    if (&benchmark.collectives == &kOfGradients) {
      const auto link = parallel::measure_link(ranks, device);
      out["link"] = {{"latency_s", link.latency_s}, {"s_per_byte", link.s_per_byte}};
    }
    out["rows"] = rows;
  });
  if (world.rank() != 0) return kDone;
  print_result(arguments, out, [&] { print_bench_allreduce(out); });
  return kDone;
}

}  // namespace

BenchPart bench_allreduce() {
  return {
      .name = "allreduce",
      .summary = "collectives between ranks: time and bandwidth by size",
      .help =
          "  mpirun -n N sluice bench allreduce [--device auto|cpu|cuda] [--sizes BYTES...] [--json]\n\n"
          "Bandwidths as nccl-tests define them: algbw is bytes of the tensor by time, busbw is algbw times\n"
          "2 (n - 1) / n for all_reduce and (n - 1) / n for the others. Medians over batches.\n\n" +
          flag_help(kBenchAllreduceFlags),
      .run = [](const std::vector<std::string>& words, parallel::Communicator& world) {
        return run_bench_allreduce({"allreduce", kOfGradients}, words, world);
      }};
}

BenchPart bench_exchange() {
  return {.name = "exchange",
          .summary = "what ranks that share sequences exchange: time and bandwidth by size",
          .help =
              "  mpirun -n N sluice bench exchange [--device auto|cpu|cuda] [--sizes BYTES...] [--json]\n\n"
              "As sluice bench allreduce; a neighbour's tensor goes to the rank after it, busbw is algbw "
              "there.\n\n" +
              flag_help(kBenchAllreduceFlags),
          .run = [](const std::vector<std::string>& words, parallel::Communicator& world) {
            return run_bench_allreduce({"exchange", kOfSequences}, words, world);
          }};
}

}  // namespace sluice::cli
