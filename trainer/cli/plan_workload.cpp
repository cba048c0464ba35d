#include "trainer/cli/plan_workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <vector>

#include "parallel/arena.h"
#include "parallel/link_model.h"
#include "trainer/cli/inspect_model.h"
#include "trainer/cli/option_checks.h"
#include "trainer/cli/plan_products.h"
#include "trainer/model/activations.h"
#include "trainer/model/parameters.h"
#include "trainer/train/errors.h"
#include "trainer/train/memory_estimate.h"
#include "trainer/train/meter.h"
#include "trainer/train/replica.h"
#include "trainer/train/sequence_ranks.h"
#include "trainer/train/state_layout.h"

namespace sluice::cli {
namespace {

using study::plan::Cluster;
using study::plan::Exchange;
using study::plan::Workload;

/// A rank of a run, and what one of its elements takes.
struct Rank {
  const train::RunOptions& options;
  std::int64_t vocabulary_size;
  std::int64_t ranks;
  train::Placement placement;

  [[nodiscard]] double compute_bytes() const {
    return static_cast<double>(c10::elementSize(placement.compute));
  }
  [[nodiscard]] double master_bytes() const {
    return static_cast<double>(c10::elementSize(placement.master));
  }
  [[nodiscard]] double wire_bytes() const {
    return options.train.reduce_dtype == "bf16" ? 2 : master_bytes();
  }
  [[nodiscard]] double share() const { return 1.0 / static_cast<double>(options.parallel.sp); }
  /// Whether each rank holds the rows of W of its positions alone.
  [[nodiscard]] bool deals_rows() const {
    return options.parallel.sp > 1 && train::exchange_mode(options) != kernels::ExchangeMode::kAllToAll;
  }
  /// The first one's of a row of ranks; others' differ by a tile.
  [[nodiscard]] std::optional<model::HeldRows> held_rows() const {
    if (!deals_rows()) return std::nullopt;
    const std::int64_t positions = options.model.seq_len;
    const std::int64_t sp = options.parallel.sp;
    return model::HeldRows{{positions, sp, kernels::sequence_tile(positions, sp)}, 0};
  }
};

/// GPUs measure their modes at the start and take the fastest: by rows, at each length that was measured
/// (docs/sequence.md).
train::RunOptions as_chosen(train::RunOptions options, const Cluster& cluster) {
  if (cluster.gpu.kind == "cuda" && options.model.kind == "gmlp" && options.parallel.sp_mode == "auto")
    options.parallel.sp_mode = "rowshard";
  return options;
}

/// train::placement_for() sets switches of the process; a plan computes nothing.
train::Placement placement_of(const study::plan::Device& gpu) {
  train::Placement placement;
  placement.device = gpu.kind == "cuda" ? at::Device(at::kCUDA) : at::Device(at::kCPU);
  if (gpu.precision == "fp64") placement.master = placement.compute = at::kDouble;
  if (gpu.precision == "bf16") placement.compute = at::kBFloat16;
  return placement;
}

/// As train::choose_buckets cuts, with the cluster's links in place of measured ones.
parallel::BucketPlan bucket_plan(const Rank& rank, const Cluster& cluster, std::int64_t elements) {
  constexpr double kCpuMegabytes = 4;
  const double megabytes = rank.options.parallel.bucket_mb;
  if (megabytes > 0 || rank.placement.device.is_cpu() || rank.ranks == 1) {
    const double bytes = 1e6 * (megabytes > 0 ? megabytes : kCpuMegabytes);
    return {.bucket_elements = std::max<std::int64_t>(1, std::llround(bytes / rank.master_bytes())),
            .world = rank.ranks,
            .sequence_ranks = rank.options.parallel.sp};
  }
  const auto group = study::plan::whole_group(cluster.links, rank.ranks);
  const double latency = study::plan::exchange_s(Exchange::kAllReduce, cluster.links, group, 0);
  const double megabyte = study::plan::exchange_s(Exchange::kAllReduce, cluster.links, group, 1e6);
  return {.bucket_elements = parallel::choose_bucket_elements(
              {.latency_s = latency, .s_per_byte = (megabyte - latency) / 1e6}, elements,
              static_cast<std::int64_t>(rank.wire_bytes())),
          .world = rank.ranks,
          .sequence_ranks = rank.options.parallel.sp};
}

/// FLOPs with which an entry's gradient ends, for one sequence: matrices over channels multiply each
/// position, those over positions each channel. The embedding is looked up; tied, it waits for the whole
/// backward.
double entry_flops(const model::ParameterSpec& spec, const model::ModelOptions& options) {
  if (spec.shape.size() < 2 || spec.name == "embed.weight" || spec.name == "positions.weight") return 0;
  const auto numel = static_cast<double>(
      std::accumulate(spec.shape.begin(), spec.shape.end(), std::int64_t{1}, std::multiplies<>()));
  if (spec.name.find(".sgu.") != std::string::npos)
    return numel * static_cast<double>(model::gate_channels(options));
  const bool over_positions = spec.name.find(".token.") != std::string::npos;
  return numel * static_cast<double>(over_positions ? options.d_model : options.seq_len);
}

std::int64_t rounded_up(std::int64_t value, std::int64_t divisor) { return (value + divisor - 1) / divisor; }

void add_buckets(const Rank& rank, const Cluster& cluster, Workload& work) {
  const auto specs = model::parameter_specs(rank.options.model, rank.vocabulary_size);
  double total = 0;
  for (const auto& spec : specs) total += entry_flops(spec, rank.options.model);
  const parallel::ArenaLayout layout(train::arena_tensors(specs, rank.held_rows(), rank.options.parallel.sp),
                                     bucket_plan(rank, cluster, model::parameter_count(specs)));
  double done = 0;
  bool at_end = false;  // of backward, which has the gradient of what forward uses first
  for (const parallel::Bucket& bucket : layout.buckets()) {
    at_end = at_end || bucket.first_entry == 0;
    for (auto entry = bucket.first_entry; entry < bucket.last_entry; ++entry)
      done += entry_flops(specs[static_cast<std::size_t>(entry)], rank.options.model);
    work.buckets.push_back({.bytes = static_cast<double>(bucket.numel()) * rank.wire_bytes(),
                            .ready = total > 0 && !at_end ? std::min(1.0, done / total) : 1,
                            .same_place = bucket.holders == parallel::Holders::kSamePlace});
  }
  const bool sharded = rank.options.parallel.zero > 0;
  const bool rounds = rank.placement.compute != rank.placement.master;
  double owned = 0;
  double gathered = 0;
  for (const parallel::Bucket& bucket : layout.buckets()) {
    const auto elements = static_cast<double>(bucket.numel());
    const std::int64_t holders =
        bucket.holders == parallel::Holders::kSamePlace ? work.layout.dp() : rank.ranks;
    owned += sharded ? elements / static_cast<double>(holders) : elements;
    if (sharded && holders > 1) gathered += elements;
  }
  // Norm: a gradient read. AdamW: four read, three written, and the rounded parameters.
  work.update_bytes = owned * (8 * rank.master_bytes() + (rounds ? rank.compute_bytes() : 0));
  work.gradient_bytes = static_cast<double>(layout.size()) * rank.master_bytes();
  work.gather_bytes = gathered * rank.compute_bytes();
  work.gather_hidden = rank.placement.device.is_cuda();
}

model::ActivationBytes activations(const Rank& rank, std::int64_t batch, kernels::Recompute recompute) {
  return model::count_activations(rank.options.model, rank.vocabulary_size,
                                  {.batch = batch,
                                   .on_gpu = rank.placement.device.is_cuda(),
                                   .compute = rank.placement.compute,
                                   .recompute = recompute});
}

void add_passes(const Rank& rank, Workload& work) {
  constexpr double kForward = 2;
  constexpr double kBackward = 3;
  constexpr double kLogits = 4;
  const std::int64_t batch = work.layout.micro_batch;
  const auto all = static_cast<double>(activations(rank, batch, kernels::Recompute::kNone).kept);
  const auto kept =
      static_cast<double>(activations(rank, batch, train::recompute_of(rank.options.train)).kept);
  const double logits =
      static_cast<double>(batch * rank.options.model.seq_len * rank.vocabulary_size) * rank.master_bytes();
  work.forward_bytes = rank.share() * (kForward * all + kLogits * logits);
  work.backward_bytes = rank.share() * (kBackward * all + kForward * (all - kept));
}

void add_memory(const Rank& rank, Workload& work) {
  const train::MemoryEstimate estimate =
      train::estimate_memory(rank.options.model, rank.vocabulary_size,
                             {.placement = rank.placement,
                              .batch = work.layout.micro_batch,
                              .recompute = train::recompute_of(rank.options.train),
                              .sharding = train::sharding_of(rank.options),
                              .buckets = {.bucket_elements = 1'000'000,
                                          .world = rank.ranks,
                                          .sequence_ranks = rank.options.parallel.sp},
                              .sequence = train::sequence_plan(rank.options)});
  work.memory_bytes = static_cast<double>(estimate.total());
}

/// trainer/README.md, "Ranks that share sequences": elements that a layer sends.
void add_sequence(const Rank& rank, Workload& work) {
  const auto& o = rank.options.model;
  if (rank.options.parallel.sp == 1) return;
  const double positions = rank.share() * static_cast<double>(work.layout.micro_batch * o.seq_len);
  const double row = positions * rank.compute_bytes();  // of one channel
  const auto sp = static_cast<double>(rank.options.parallel.sp);
  const auto add = [&](Exchange exchange, double bytes, double forward, double backward) {
    work.sequence.push_back({.exchange = exchange, .bytes = bytes, .forward = forward, .backward = backward});
  };
  if (o.kind == "transformer") {
    add(Exchange::kAllGather, sp * row * 2 * static_cast<double>(o.d_model), 1, 2);
    return;
  }
  const double channels = static_cast<double>(model::gate_channels(o));
  const bool all_to_all = train::exchange_mode(rank.options) == kernels::ExchangeMode::kAllToAll;
  if (all_to_all)
    add(Exchange::kAllToAll, row * channels, 2, 3);
  else
    add(Exchange::kAllGather, sp * row * channels, 1, 2);
  // Copy engines bring a GPU's messages beside its products by rows, too.
  work.sequence.back().hidden = train::exchange_mode(rank.options) == kernels::ExchangeMode::kRing ||
                                (!all_to_all && rank.placement.device.is_cuda());
  if (o.tiny_attention > 0)
    add(Exchange::kAllGather, sp * row * 2 * static_cast<double>(o.tiny_attention), 1, 2);
}

/// Share of a causal gMLP's products over positions, as one rank runs them, that ranks sharing sequences run:
/// on a CPU of 2 sp chunks each holds r and 2 sp - 1 - r, and blocks above the diagonal are left out. A GPU
/// leaves out the same tiles either way.
double shared_pairs(const Rank& rank) {
  const train::RunOptions& options = rank.options;
  const auto sp = static_cast<double>(options.parallel.sp);
  if (sp == 1 || options.model.kind != "gmlp" || !options.model.causal) return 1;
  if (rank.placement.device.is_cuda()) return 1;
  return (2 * sp + 1) / (4 * sp);
}

std::optional<std::string> rank_refusal(const train::RunOptions& options, std::int64_t ranks,
                                        const Cluster& cluster) {
  const std::int64_t sp = options.parallel.sp;
  if (ranks % sp != 0) return fmt::format("sp = {} does not divide {} ranks", sp, ranks);
  if (sp > options.model.seq_len)
    return fmt::format("sp = {} ranks for the {} positions of a sequence", sp, options.model.seq_len);
  if (options.train.global_batch < ranks / sp)
    return fmt::format("dp = {} ranks for {} sequences of train.global_batch", ranks / sp,
                       options.train.global_batch);
  const std::int64_t of_rank = rounded_up(options.train.global_batch, ranks / sp);
  if (options.train.micro_batch > of_rank)
    return fmt::format("micro-batch of {} where a rank has {} sequences", options.train.micro_batch, of_rank);
  if (ranks > cluster.links.ranks_per_node && !cluster.links.network)
    return fmt::format("{} ranks on nodes of {}, and the cluster file has no [link.network]", ranks,
                       cluster.links.ranks_per_node);
  return std::nullopt;
}

}  // namespace

Workload plan_workload(const train::RunOptions& asked, std::int64_t vocabulary_size, std::int64_t ranks,
                       const Cluster& cluster) {
  const train::RunOptions options = as_chosen(asked, cluster);
  const Rank rank{options, vocabulary_size, ranks, placement_of(cluster.gpu)};
  const std::int64_t of_rank = rounded_up(options.train.global_batch, ranks / options.parallel.sp);
  Workload work;
  work.layout = {.ranks = ranks,
                 .sp = options.parallel.sp,
                 .zero = options.parallel.zero,
                 .recompute = options.train.recompute,
                 .micro_batch = options.train.micro_batch,
                 .micro_batches = rounded_up(of_rank, options.train.micro_batch)};
  work.layers = static_cast<double>(options.model.layers);
  work.step_tokens = static_cast<double>(options.train.global_batch * options.model.seq_len);
  const auto tokens = rank.share() * static_cast<double>(options.train.micro_batch * options.model.seq_len);
  const auto executed = [&](const std::string& recompute) {
    train::RunOptions as = options;
    as.train.recompute = recompute;
    return train::workload_of(as, vocabulary_size, ranks, rank.placement.device, rank.placement.compute)
        .flops;
  };
  const ModelProducts products = model_products(options, vocabulary_size, rank.compute_bytes());
  const double run = tokens * (1 - products.over_positions * (1 - shared_pairs(rank)));
  work.useful_flops_per_token = executed("none").useful_per_token;
  work.forward_flops = run * executed("none").executed_per_token / 3;
  work.backward_flops = run * executed(options.train.recompute).executed_per_token - work.forward_flops;
  work.products = products.products;
  work.mixing_flops = products.over_positions;
  add_passes(rank, work);
  add_buckets(rank, cluster, work);
  add_sequence(rank, work);
  add_memory(rank, work);
  return work;
}

std::optional<std::string> plan_refusal(const train::RunOptions& options, std::int64_t vocabulary_size,
                                        std::int64_t ranks, const Cluster& cluster) {
  const auto faults = check_model(options);
  if (!faults.empty()) return faults.front().text;
  if (options.train.recompute == "gate" && options.model.kind != "gmlp")
    return fmt::format("recompute = gate: model.kind = {} has no gate", options.model.kind);
  if (const auto refusal = rank_refusal(options, ranks, cluster)) return refusal;
  const auto work = plan_workload(options, vocabulary_size, ranks, cluster);
  const double bytes = work.memory_bytes + cluster.gpu.memory_overhead_bytes;
  constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
  if (bytes > cluster.gpu.memory_bytes)
    return fmt::format("memory: {:.2f} GiB on a rank of {:.2f}", bytes / kGiB,
                       cluster.gpu.memory_bytes / kGiB);
  return std::nullopt;
}

void check_same_device(const train::RunOptions& options, const Cluster& cluster) {
  std::vector<std::string> faults;
  if (options.train.precision != cluster.gpu.precision)
    faults.push_back(fmt::format("train.precision = {}: the cluster file's rates hold for {} alone",
                                 options.train.precision, cluster.gpu.precision));
  if (options.train.device != "auto" && options.train.device != cluster.gpu.kind)
    faults.push_back(fmt::format("train.device = {}: the cluster file's ranks compute on {}",
                                 options.train.device, cluster.gpu.kind));
  if (!faults.empty()) throw train::InputError(faults);
}

study::plan::StepPrediction predicted_step(const train::RunOptions& options, std::int64_t vocabulary_size,
                                           std::int64_t ranks, const Cluster& cluster) {
  check_same_device(options, cluster);
  if (const auto refusal = plan_refusal(options, vocabulary_size, ranks, cluster))
    throw train::InputError(*refusal);
  return study::plan::predict_step(plan_workload(options, vocabulary_size, ranks, cluster), cluster);
}

}  // namespace sluice::cli
