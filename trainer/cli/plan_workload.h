#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "trainer/study/plan/step_model.h"
#include "trainer/train/options.h"

// Model arithmetic of `sluice plan`: settings of a run to the counts that trainer/study/plan predicts from.

namespace sluice::cli {

/// One rank's step of a run with these settings on `ranks` ranks of `cluster`: FLOPs of model::count_flops,
/// the shapes of the model's products, bytes of model::count_activations and train::estimate_memory, and
/// buckets of the run's arena in the order in which backward finishes them.
///
/// Bytes of elementwise passes are counted as: forward writes each kept activation and reads it once;
/// backward reads it, and writes and reads a gradient of its size, after forward's passes of what is computed
/// again; logits in full precision pass twice in forward, where their gradient is made too. How far this is
/// from what a device does is measured (Device::forward_pass_factor).
///
/// Throws train::InputError as rank_figures() does.
[[nodiscard]] study::plan::Workload plan_workload(const train::RunOptions& options,
                                                  std::int64_t vocabulary_size, std::int64_t ranks,
                                                  const study::plan::Cluster& cluster);

/// Why a run with these settings cannot be on `ranks` ranks of `cluster`, memory included; none: it can.
[[nodiscard]] std::optional<std::string> plan_refusal(const train::RunOptions& options,
                                                      std::int64_t vocabulary_size, std::int64_t ranks,
                                                      const study::plan::Cluster& cluster);

/// Throws train::InputError where train.device or train.precision are not the cluster file's.
void check_same_device(const train::RunOptions& options, const study::plan::Cluster& cluster);

/// What `sluice study` asks for each cell of a speed study: step time by cause and memory of a rank
/// (StepPrediction::step_s, memory_bytes). Throws train::InputError as check_same_device(), and for settings
/// that plan_refusal() refuses.
[[nodiscard]] study::plan::StepPrediction predicted_step(const train::RunOptions& options,
                                                         std::int64_t vocabulary_size, std::int64_t ranks,
                                                         const study::plan::Cluster& cluster);

}  // namespace sluice::cli
