#include "trainer/study/plan/step_model.h"

#include <algorithm>

#include "trainer/study/plan/extreme.h"
#include "trainer/study/plan/overlap.h"

namespace sluice::study::plan {
namespace {

/// Forward and backward of one micro-batch, backward undisturbed.
struct Compute {
  double forward_s = 0;
  double backward_s = 0;
};

double s_per_flop(const std::vector<Product>& products, const Device& gpu) {
  double seconds = 0;
  double flops = 0;
  for (const Product& product : products) {
    seconds += product.flops / gpu.gemm_flops_per_s + product.bytes / gpu.gemm_bytes_per_s;
    flops += product.flops;
  }
  return flops > 0 ? seconds / flops : 1 / gpu.gemm_flops_per_s;
}

Compute compute_of(const Workload& work, const Device& gpu) {
  const double product_s = s_per_flop(work.products, gpu);
  return {.forward_s = work.forward_flops * product_s +
                       work.forward_bytes / gpu.copy_bytes_per_s * gpu.forward_pass_factor +
                       work.layers * gpu.forward_layer_s,
          .backward_s = work.backward_flops * product_s +
                        work.backward_bytes / gpu.copy_bytes_per_s * gpu.backward_pass_factor +
                        work.layers * gpu.backward_layer_s};
}

/// What a micro-batch's exchanges between ranks that share sequences take; of hidden ones, what the products
/// over positions are too short for.
Compute sequence_exchanges(const Workload& work, const Cluster& cluster) {
  const Group row{.ranks = work.layout.sp,
                  .per_node = std::min(work.layout.sp, cluster.links.ranks_per_node)};
  const double product_s = s_per_flop(work.products, cluster.gpu) * work.mixing_flops;
  Compute all;
  for (const SequenceLoad& load : work.sequence) {
    const double once = exchange_s(load.exchange, cluster.links, row, load.bytes);
    const double hide = load.hidden ? 1 : 0;
    all.forward_s += std::max(0.0, work.layers * load.forward * once - hide * product_s * work.forward_flops);
    all.backward_s +=
        std::max(0.0, work.layers * load.backward * once - hide * product_s * work.backward_flops);
  }
  return all;
}

std::vector<ReadyBucket> ready_buckets(const Workload& work, const Cluster& cluster, double backward_s) {
  std::vector<ReadyBucket> buckets;
  if (work.layout.ranks == 1) return buckets;
  const Group all = whole_group(cluster.links, work.layout.ranks);
  const Group same_place{.ranks = work.layout.dp(),
                         .per_node = std::clamp<std::int64_t>(cluster.links.ranks_per_node / work.layout.sp,
                                                              1, work.layout.dp())};
  const auto exchange = work.layout.zero > 0 ? Exchange::kReduceScatter : Exchange::kAllReduce;
  for (const BucketLoad& bucket : work.buckets) {
    const Group& group = bucket.same_place ? same_place : all;
    if (group.ranks == 1) continue;
    buckets.push_back({.ready_s = bucket.ready * backward_s,
                       .reduce_s = exchange_s(exchange, cluster.links, group, bucket.bytes)});
  }
  return buckets;
}

/// The few numbers that ranks agree on in each step, and the gather of updated slices.
double exchanges_after_backward(const Workload& work, const Cluster& cluster, double forward_s) {
  constexpr double kAgreedBytes = 32;
  if (work.layout.ranks == 1) return 0;
  const Group all = whole_group(cluster.links, work.layout.ranks);
  const double agree = exchange_s(Exchange::kAllReduce, cluster.links, all, kAgreedBytes);
  if (work.layout.zero == 0) return agree;
  const double gather = exchange_s(Exchange::kAllGather, cluster.links, all, work.gather_bytes);
  return 2 * agree + std::max(0.0, gather - (work.gather_hidden ? forward_s : 0));
}

}  // namespace

StepPrediction predict_step(const Workload& work, const Cluster& cluster) {
  const Device& gpu = cluster.gpu;
  const auto times = static_cast<double>(work.layout.micro_batches);
  const Compute compute = compute_of(work, gpu);
  const Compute exchanges = sequence_exchanges(work, cluster);
  const double backward_s = compute.backward_s + exchanges.backward_s;
  const auto buckets = ready_buckets(work, cluster, backward_s);
  const Overlap last = simulate_overlap(backward_s, buckets, gpu.overlap_slowdown);

  StepPrediction step;
  step.sequence_s = times * (exchanges.forward_s + exchanges.backward_s);
  step.forward_s = times * (compute.forward_s + exchanges.forward_s);
  step.backward_s = (times - 1) * backward_s + last.backward_s;
  for (const ReadyBucket& bucket : buckets) step.reduce_s += bucket.reduce_s;
  const double alone = times * (compute.forward_s + compute.backward_s);
  const double mean = expected_maximum(gpu.spread, 1);
  if (mean > 0 && work.layout.ranks > 1) {
    const double slowest = expected_maximum(gpu.spread, static_cast<double>(work.layout.ranks));
    step.straggler_s = alone * (slowest / mean - 1);
  }
  step.comm_exposed_s =
      last.exposed_s() + exchanges_after_backward(work, cluster, step.forward_s) + step.straggler_s;
  step.optimizer_s = work.update_bytes / gpu.update_bytes_per_s;
  step.other_s = work.gradient_bytes / gpu.copy_bytes_per_s + gpu.step_overhead_s;
  step.step_s = step.forward_s + step.backward_s + step.comm_exposed_s + step.optimizer_s + step.other_s;
  step.tokens_per_s = work.step_tokens / step.step_s;
  step.efficiency = (alone + step.optimizer_s + step.other_s) / step.step_s;
  if (gpu.peak_flops_per_s > 0) {
    step.mfu = work.useful_flops_per_token * step.tokens_per_s / static_cast<double>(work.layout.ranks) /
               gpu.peak_flops_per_s;
  }
  step.memory_bytes = work.memory_bytes + gpu.memory_overhead_bytes;
  step.extrapolated = work.layout.ranks > cluster.measured_ranks;
  return step;
}

Bill bill_for(double tokens, const StepPrediction& step, std::int64_t ranks, const Cluster& cluster) {
  constexpr double kSecondsPerHour = 3600;
  constexpr double kWattsPerKilowatt = 1000;
  Bill bill;
  bill.hours = tokens / step.tokens_per_s / kSecondsPerHour;
  bill.gpu_hours = bill.hours * static_cast<double>(ranks);
  bill.energy_kwh = bill.gpu_hours * cluster.gpu.power_w * cluster.cost.pue / kWattsPerKilowatt;
  bill.money = bill.gpu_hours * cluster.cost.gpu_hour + bill.energy_kwh * cluster.cost.kwh;
  return bill;
}

}  // namespace sluice::study::plan
