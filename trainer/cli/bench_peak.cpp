#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <vector>

#include "parallel/device.h"
#include "trainer/cli/bench.h"
#include "trainer/cli/command.h"
#include "trainer/cli/output.h"
#include "trainer/kernels/peak.h"
#include "trainer/train/datasheet.h"
#include "trainer/train/errors.h"
#include "trainer/train/threads.h"

namespace sluice::cli {
namespace {

constexpr double kBudgetS = 0.4;  ///< of a shape: all of them stay below ten seconds

const std::vector<Flag> kBenchPeakFlags = {
    {.name = "--device", .value_name = "NAME", .help = "auto, cpu or cuda", .default_value = "auto"},
    {.name = "--threads",
     .value_name = "N",
     .help = "compute threads on the CPU; 0: one for each core",
     .default_value = "0"},
    json_flag()};

struct Kind {
  const char* name;
  kernels::Arithmetic arithmetic;
};

std::vector<Kind> kinds(const c10::Device& device) {
  if (device.is_cpu()) return {{"fp32", kernels::Arithmetic::kFp32}};
  return {{"bf16", kernels::Arithmetic::kBf16},
          {"tf32", kernels::Arithmetic::kTf32},
          {"fp32", kernels::Arithmetic::kFp32}};
}

c10::Device chosen_device(const Arguments& arguments, parallel::Communicator& world) {
  const std::string name = arguments.choice("--device", {"auto", "cpu", "cuda"});
  auto choice = parallel::DeviceChoice::kAuto;
  if (name == "cpu") choice = parallel::DeviceChoice::kCpu;
  if (name == "cuda") choice = parallel::DeviceChoice::kCuda;
  return parallel::choose_device(choice, parallel::find_place(world), world);
}

nlohmann::ordered_json measure(const c10::Device& device, const Kind& kind, const std::string& device_name) {
  const auto rate =
      kernels::measure_gemm_peak(kind.arithmetic, kernels::large_gemms(device), device, kBudgetS);
  nlohmann::ordered_json out = {{"tflops", 1e-12 * rate.flops_per_s},
                                {"best_tflops", 1e-12 * rate.best_flops_per_s},
                                {"shape", {rate.shape.rows, rate.shape.inner, rate.shape.columns}},
                                {"repetitions", rate.repetitions}};
  if (const auto datasheet = train::datasheet_peak(device_name, kind.name))
    out["datasheet_tflops"] = 1e-12 * *datasheet;
  return out;
}

nlohmann::ordered_json measure_all(const c10::Device& device) {
  constexpr std::int64_t kCopyOnGpu = std::int64_t{1} << 30;
  constexpr std::int64_t kCopyOnCpu = std::int64_t{1} << 28;
  const std::int64_t copied = device.is_cpu() ? kCopyOnCpu : kCopyOnGpu;
  nlohmann::ordered_json values = {{"bench", "peak"}, {"device", parallel::device_name(device)}};
  for (const Kind& kind : kinds(device)) values[kind.name] = measure(device, kind, values["device"]);
  values["copy_gb_per_s"] = 1e-9 * kernels::measure_copy(copied, device, kBudgetS);
  return values;
}

void print_bench_peak(const nlohmann::ordered_json& values, const c10::Device& device) {
  fmt::print("{}\n", values["device"].get<std::string>());
  for (const Kind& kind : kinds(device)) {
    const auto& gemm = values[kind.name];
    const auto shape = gemm["shape"].get<std::vector<std::int64_t>>();
    const double rate = gemm["tflops"].get<double>();
    fmt::print("{}  {:8.2f} TFLOP/s   {} x {} x {}, median of {}", kind.name, rate, shape[0], shape[1],
               shape[2], gemm["repetitions"].get<std::int64_t>());
    if (gemm.contains("datasheet_tflops")) {
      const double datasheet = gemm["datasheet_tflops"].get<double>();
      fmt::print("; {:.1f} % of the data sheet's {:.1f}", 100.0 * rate / datasheet, datasheet);
    }
    fmt::print("\n");
  }
  fmt::print("copy  {:8.1f} GB/s read and written\n", values["copy_gb_per_s"].get<double>());
}

int run_bench_peak(const std::vector<std::string>& words, parallel::Communicator& world) {
  const Arguments arguments(kBenchPeakFlags, words);
  if (world.size() > 1)
    throw train::InputError("sluice bench peak measures one device: start it without mpirun");
  const c10::Device device = chosen_device(arguments, world);
  (void)train::set_compute_threads(arguments.integer("--threads", 0, 1024), world);
  const auto values = measure_all(device);
  print_result(arguments, values, [&] { print_bench_peak(values, device); });
  return kDone;
}

}  // namespace

BenchPart bench_peak() {
  return {.name = "peak",
          .summary = "what a device reaches: large products at each precision, and copies",
          .help =
              "  sluice bench peak [--device auto|cpu|cuda] [--json]\n\n"
              "The fastest of a few large products of random matrices, the median of its repetitions:\n"
              "the denominator of MFU and HFU. The data sheet's dense peak beside it where it is known.\n\n" +
              flag_help(kBenchPeakFlags),
          .run = run_bench_peak};
}

}  // namespace sluice::cli
