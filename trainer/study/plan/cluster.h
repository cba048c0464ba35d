#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/study/plan/link.h"

// A cluster as its calibration measured it and its file says (docs/plan.md, docs/formats.md).
namespace sluice::study::plan {

/// What one rank computes with, at one precision.
struct Device {
  std::string name;
  std::string kind = "cpu";        ///< train.device: cpu | cuda
  std::string precision = "fp32";  ///< train.precision that the rates hold for
  double memory_bytes = 0;         ///< that one rank may take
  double memory_overhead_bytes =
      0;  ///< of a process or context, beside what train::estimate_memory counts; measured
  /// A product takes flops / gemm_flops_per_s + bytes of its three matrices / gemm_bytes_per_s.
  double gemm_flops_per_s = 0;
  double gemm_bytes_per_s = 0;
  double copy_bytes_per_s = 0;    ///< read and written by a large copy
  double update_bytes_per_s = 0;  ///< of norm, clip and AdamW
  /// An elementwise pass takes its bytes / copy_bytes_per_s times this: what is not bound by memory, or is
  /// in a cache, or was not counted.
  double forward_pass_factor = 1;
  double backward_pass_factor = 1;
  double forward_layer_s = 0;  ///< of each layer of a micro-batch, whatever its size
  double backward_layer_s = 0;
  double step_overhead_s = 0;   ///< of a step, outside of all other causes
  double overlap_slowdown = 1;  ///< of backward while a bucket is reduced, >= 1
  double peak_flops_per_s = 0;  ///< what MFU divides by; 0: not known
  double power_w = 0;           ///< of one device at work; 0: not known
  /// Forward and backward of single steps and ranks, each over its rank's median.
  std::vector<double> spread = {};
};

struct Prices {
  std::string currency = "EUR";
  double gpu_hour = 0;  ///< 0: not known
  double kwh = 0;
  double pue = 1;  ///< energy of the building over that of its devices
};

struct Cluster {
  Device gpu;
  Links links;
  Prices cost;
  std::int64_t measured_ranks = 1;  ///< predictions for more are extrapolated
};

}  // namespace sluice::study::plan
