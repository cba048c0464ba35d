#include <fmt/format.h>

#include <cstdio>

#include "trainer/cli/bench.h"
#include "trainer/cli/command.h"
#include "trainer/cli/kernel_report.h"
#include "trainer/cli/output.h"
#include "trainer/train/device_group.h"
#include "trainer/train/errors.h"
#include "trainer/train/kernel_benchmark.h"

namespace sluice::cli {
namespace {

const std::vector<Flag> kBenchKernelsFlags = {json_flag()};

train::BlockShape shape_of(const train::RunOptions& options) {
  return {.batch = options.train.micro_batch,
          .positions = options.model.seq_len,
          .width = options.model.d_model,
          .expansion = options.model.d_ffn,
          .mixing = options.model.causal ? kernels::Mixing::kCausal : kernels::Mixing::kFull,
          .compute = options.train.precision == "bf16" ? c10::ScalarType::BFloat16 : c10::ScalarType::Float};
}

/// All that stands against timing anything, at once.
void check(const train::RunOptions& options, const parallel::Communicator& world, const c10::Device& device) {
  std::vector<std::string> faults;
  if (world.size() > 1) faults.push_back("sluice bench kernels measures one GPU: start it without mpirun");
  if (device.is_cpu())
    faults.push_back(
        "sluice bench kernels: without a GPU there is nothing to time, for these kernels run on GPUs");
  if (options.model.kind != "gmlp")
    faults.push_back(fmt::format("model.kind = {}: sluice bench kernels takes gmlp", options.model.kind));
  if (options.train.precision != "bf16" && options.train.precision != "fp32")
    faults.push_back(fmt::format("train.precision = {}: sluice bench kernels takes bf16 or fp32",
                                 options.train.precision));
  for (const auto& [name, width] : {std::pair{"model.d_model", options.model.d_model},
                                    std::pair{"half of model.d_ffn", options.model.d_ffn / 2}})
    if (width % 8 != 0 || width > 8192)
      faults.push_back(fmt::format(
          "{} is {}: the fused passes take a multiple of 8, at most 8192, and nothing else is timed", name,
          width));
  if (!faults.empty()) throw train::InputError(faults);
}

int run_bench_kernels(const std::vector<std::string>& words, parallel::Communicator& world) {
  const BenchWords both = split_words(kBenchKernelsFlags, words);
  const Arguments arguments(kBenchKernelsFlags, both.own);
  const train::RunOptions options = bench_options(both.settings);
  const train::DeviceGroup group(options.train.device, world);
  check(options, world, group.device());
  const train::KernelReport report = train::benchmark_kernels(shape_of(options), group.device());
  if (arguments.has("--json"))
    std::puts(kernel_json(report).c_str());
  else
    std::fputs(kernel_lines(report).c_str(), stdout);
  return kDone;
}

}  // namespace

BenchPart bench_kernels() {
  return {
      .name = "kernels",
      .summary = "each kernel of a fused block by itself on a GPU, and its share of what limits it",
      .help =
          "  sluice bench kernels [--config FILE...] [--section.key=value ...] [--json]\n\n"
          "One block of [model] with train.micro_batch sequences in train.precision (bf16 or fp32). The "
          "limit of a\n"
          "kernel is the longer of two times: its bytes, each read or written once, at the rate of a large "
          "copy, and\n"
          "its FLOPs at that of the fastest large product, both measured in the same run. Medians.\n\n" +
          flag_help(kBenchKernelsFlags),
      .run = run_bench_kernels};
}

}  // namespace sluice::cli
