#include "trainer/cli/inspect_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <numeric>

#include "parallel/device.h"
#include "trainer/cli/option_checks.h"
#include "trainer/cli/option_table.h"
#include "trainer/model/parameters.h"
#include "trainer/train/errors.h"
#include "trainer/train/masking.h"
#include "trainer/train/meter.h"
#include "trainer/train/replica.h"

namespace sluice::cli {
namespace {

/// "blocks.3.sgu.weight" -> "blocks.*.sgu.weight"
std::string part_name(const std::string& name) {
  const std::string prefix = "blocks.";
  if (!name.starts_with(prefix)) return name;
  return prefix + "*" + name.substr(name.find('.', prefix.size()));
}

bool is_embedding(const ModelPart& part) {
  return part.name == "embed.weight" || part.name == "positions.weight" || part.name == "head.weight";
}

bool is_spatial(const ModelPart& part) {
  return part.name == "blocks.*.sgu.weight" || part.name == "blocks.*.token.expand.weight" ||
         part.name == "blocks.*.token.contract.weight";
}

/// train.device; auto is the one that has the precision.
at::Device device_of(const train::TrainOptions& options) {
  if (options.device == "cpu") return at::kCPU;
  const bool needs_gpu =
      options.precision == "bf16" || options.precision == "tf32" || options.precision == "fp8";
  return options.device == "cuda" || needs_gpu ? at::Device(at::kCUDA) : at::Device(at::kCPU);
}

void check_sharing(const train::RunOptions& options, std::int64_t ranks) {
  std::vector<std::string> faults;
  if (ranks % options.parallel.sp != 0)
    faults.push_back(
        fmt::format("parallel.sp = {}: must divide the ranks, --ranks {}", options.parallel.sp, ranks));
  for (const CombinationFault& fault : check_combinations(options))
    if (std::ranges::any_of(fault.keys, [](const auto& key) { return key.starts_with("parallel.sp"); }))
      faults.push_back(fault.text);
  if (!faults.empty()) throw train::InputError(std::move(faults));
}

}  // namespace

std::vector<ModelPart> model_parts(const model::ModelOptions& options, std::int64_t vocabulary_size) {
  std::vector<ModelPart> parts;
  for (const auto& spec : model::parameter_specs(options, vocabulary_size)) {
    const auto name = part_name(spec.name);
    auto found =
        std::find_if(parts.begin(), parts.end(), [&](const ModelPart& part) { return part.name == name; });
    if (found == parts.end()) found = parts.insert(parts.end(), {name, 0, 0});
    ++found->tensors;
    found->parameters += std::accumulate(spec.shape.begin(), spec.shape.end(), std::int64_t{1},
                                         std::multiplies<std::int64_t>());
  }
  return parts;
}

ParameterCounts count_parameters(const std::vector<ModelPart>& parts) {
  ParameterCounts counts;
  for (const ModelPart& part : parts) {
    counts.all += part.parameters;
    if (!is_embedding(part)) counts.without_embeddings += part.parameters;
    if (!is_spatial(part)) counts.without_spatial += part.parameters;
  }
  return counts;
}

train::MemoryEstimate rank_memory(const train::RunOptions& options, std::int64_t vocabulary_size,
                                  std::int64_t ranks) {
  constexpr std::int64_t kBucketElements =
      1'000'000;  // as CPU ranks have; others pad by a little less or more
  return train::estimate_memory(
      options.model, vocabulary_size,
      {.placement = train::placement_for(options.train, device_of(options.train)),
       .batch = options.train.micro_batch,
       .recompute = train::recompute_of(options.train),
       .sharding = train::sharding_of(options),
       .buckets = {.bucket_elements = kBucketElements, .world = ranks, .sequence_ranks = options.parallel.sp},
       .sequence = train::sequence_plan(options)});
}

RankFigures rank_figures(const train::RunOptions& options, std::int64_t vocabulary_size, std::int64_t ranks) {
  if (options.train.recompute == "gate" && options.model.kind != "gmlp") {
    throw train::InputError(
        fmt::format("train.recompute = gate: model.kind = {} has no gate; allowed are none and block",
                    options.model.kind));
  }
  check_sharing(options, ranks);
  const at::Device device = device_of(options.train);
  const train::Placement placement = train::placement_for(options.train, device);
  return {.device = device.is_cpu() ? "cpu" : "cuda",
          .predicted_positions = train::sample_form(options).targets,
          .flops = train::workload_of(options, vocabulary_size, ranks, device, placement.compute).flops,
          .memory = rank_memory(options, vocabulary_size, ranks)};
}

std::vector<Flag> model_flags() {
  const std::string from_file = "; default: as the file says";
  return {
      {.name = "--model",
       .value_name = "FILE",
       .help = "instead of PATH: parameters by part, FLOPs and memory of a settings file's model"},
      {.name = "--vocabulary",
       .value_name = "V",
       .help = "with --model: ids of the tokenizer",
       .default_value = "257"},
      {.name = "--batch", .value_name = "B", .help = "with --model: sequences at once on a rank" + from_file},
      {.name = "--device",
       .value_name = "NAME",
       .help = "with --model: cpu or cuda; default: cuda for tf32 and bf16, else cpu"},
      {.name = "--precision",
       .value_name = "NAME",
       .help = "with --model: fp32, tf32, bf16, fp8 or fp64" + from_file},
      {.name = "--recompute", .value_name = "NAME", .help = "with --model: none, gate or block" + from_file},
      {.name = "--zero", .value_name = "N", .help = "with --model: 0 or 1" + from_file},
      {.name = "--sp", .value_name = "K", .help = "with --model: ranks that share each sequence" + from_file},
      {.name = "--sp-mode",
       .value_name = "NAME",
       .help = "with --model: auto, alltoall, rowshard or ring" + from_file},
      {.name = "--ranks",
       .value_name = "R",
       .help = "with --model: ranks of the run; default: those that share a sequence"},
      {.name = "--memory",
       .value_name = "GIB|auto",
       .help = "with --model: which n fits in so much memory of a device at which sp; auto: of this "
               "machine's GPU"}};
}

train::RunOptions model_settings(const Arguments& arguments) {
  const auto file = arguments.text("--model");
  std::vector<std::string> words;
  const auto set = [&](const char* flag, const std::string& key, const auto& value_of) {
    if (arguments.has(flag)) words.push_back(fmt::format("--{}={}", key, value_of()));
  };
  set("--batch", "train.micro_batch", [&] { return arguments.integer("--batch", 1, 10'000'000); });
  set("--device", "train.device", [&] { return arguments.choice("--device", {"cpu", "cuda"}); });
  set("--precision", "train.precision", [&] {
    return arguments.choice("--precision", {"fp32", "tf32", "bf16", "fp8", "fp64"});
  });
  set("--recompute", "train.recompute", [&] {
    return arguments.choice("--recompute", {"none", "gate", "block"});
  });
  set("--sp", "parallel.sp", [&] { return arguments.integer("--sp", 1, 4096); });
  set("--sp-mode", "parallel.sp_mode", [&] {
    return arguments.choice("--sp-mode", {"auto", "alltoall", "rowshard", "ring"});
  });
  set("--zero", "parallel.zero", [&] { return arguments.integer("--zero", 0, 1); });
  return parse_partial_options(read_model_file(file), file, words);
}

std::optional<std::int64_t> device_memory(const Arguments& arguments) {
  if (!arguments.has("--memory")) return std::nullopt;
  if (arguments.text("--memory") != "auto") {
    constexpr double kGib = 1024.0 * 1024.0 * 1024.0;
    return static_cast<std::int64_t>(arguments.number("--memory", 0.001, 1e6) * kGib);
  }
  if (parallel::report_devices().gpus.empty())
    throw train::InputError("--memory auto: this machine has no GPU, give its GiB");
  return parallel::gpu_info(at::Device(at::kCUDA, 0)).memory_bytes;
}

}  // namespace sluice::cli
