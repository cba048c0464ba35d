#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/study/plan/cluster.h"

namespace sluice::study::plan {

/// How ranks share a step.
struct Layout {
  std::int64_t ranks = 1;  ///< dp x sp
  std::int64_t sp = 1;
  std::int64_t zero = 0;  ///< parallel.zero
  std::string recompute = "none";
  std::int64_t micro_batch = 1;  ///< sequences at once
  std::int64_t micro_batches = 1;

  [[nodiscard]] std::int64_t dp() const { return ranks / sp; }
};

/// A matrix product as it is timed: its rate follows from its shape.
struct Product {
  double flops = 0;
  double bytes = 0;  ///< of both operands and the result
};

struct BucketLoad {
  double bytes = 0;         ///< on the wire
  double ready = 1;         ///< share of the backward that is done when its last gradient is
  bool same_place = false;  ///< of W's rows: summed by the dp ranks that hold the same ones
};

/// Exchanges of one layer's mixing over positions between the sp ranks of a row.
struct SequenceLoad {
  Exchange exchange = Exchange::kAllToAll;
  double bytes = 0;     ///< whole tensor
  double forward = 0;   ///< times a layer
  double backward = 0;  ///< times a layer
  bool hidden = false;  ///< runs beside the layer's products over positions: a ring
};

/// One rank's step as counts: from trainer/model's FLOPs, activations and parameters
/// (trainer/cli/plan_workload.h).
struct Workload {
  Layout layout;
  double layers = 0;
  double step_tokens = 0;             ///< all ranks
  double useful_flops_per_token = 0;  ///< MFU's
  std::vector<Product> products;      ///< one of each kind in the proportion in which forward runs them
  double mixing_flops = 0;            ///< share of the products' FLOPs that are over positions
  double forward_flops = 0;           ///< executed for one micro-batch
  double backward_flops = 0;          ///< with what is computed again
  double forward_bytes = 0;           ///< of elementwise passes for one micro-batch
  double backward_bytes = 0;
  double update_bytes = 0;    ///< of norm, clip and AdamW on what this rank owns
  double gradient_bytes = 0;  ///< zeroed before each step
  std::vector<BucketLoad> buckets;
  double gather_bytes = 0;     ///< of parameters after an update of slices (ZeRO-1); 0: none
  bool gather_hidden = false;  ///< it runs under the next forward
  std::vector<SequenceLoad> sequence;
  double memory_bytes = 0;  ///< train::MemoryEstimate::total()
};

/// Seconds of a step by cause, as train::StepResult has them, and what follows.
struct StepPrediction {
  double forward_s = 0;
  double backward_s = 0;      ///< as long as it takes beside the reductions
  double comm_exposed_s = 0;  ///< communication that nothing hides, and waiting for the slowest rank
  double optimizer_s = 0;
  double other_s = 0;
  double step_s = 0;          ///< their sum
  double straggler_s = 0;     ///< of comm_exposed_s: waiting for the slowest of the ranks
  double sequence_s = 0;      ///< of forward and backward: exchanges between ranks that share sequences
  double reduce_s = 0;        ///< of all buckets, hidden or not
  double tokens_per_s = 0;    ///< all ranks
  double efficiency = 0;      ///< time of this rank's work by itself over step_s
  double mfu = 0;             ///< 0: the device's peak is not known
  double memory_bytes = 0;    ///< of one rank
  bool extrapolated = false;  ///< more ranks than were measured
};

/// Predicts one step. Pure.
///
/// Forward of a micro-batch: FLOPs at the mean rate of its products, each flops / gemm_flops_per_s + bytes /
/// gemm_bytes_per_s; bytes of elementwise passes / copy_bytes_per_s * forward_pass_factor; layers *
/// forward_layer_s; exchanges between ranks that share sequences. Backward likewise. The last backward runs
/// beside the reduction of its buckets (simulate_overlap). The slowest of N ranks: forward and backward times
/// expected_maximum(spread, N) over the spread's mean. Efficiency: the same step with neither exchanges nor
/// slower ranks, over this one.
[[nodiscard]] StepPrediction predict_step(const Workload& work, const Cluster& cluster);

/// What training on `tokens` tokens takes.
struct Bill {
  double hours = 0;
  double gpu_hours = 0;
  double energy_kwh = 0;  ///< 0: power is not known
  double money = 0;       ///< 0: no price is known
};
[[nodiscard]] Bill bill_for(double tokens, const StepPrediction& step, std::int64_t ranks,
                            const Cluster& cluster);

}  // namespace sluice::study::plan
