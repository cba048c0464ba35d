#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "parallel/communicator.h"
#include "trainer/train/device_group.h"
#include "trainer/train/options.h"

// What moves gradients and parameters between the GPUs of one host: parallel.exchange.

namespace sluice::train {

/// What an exchange of all gradients through the host's memory takes, and the backward of a micro-batch that
/// hides it; estimates.
struct HostMemoryLoad {
  double exchange_s = 0;
  double backward_s = 0;

  /// Whether the host's memory is the faster way: links between GPUs that sleep leave their power to
  /// products, which is worth more than the little that is seen of such an exchange.
  [[nodiscard]] bool is_light() const;
};

/// `s_per_byte`: of gradients, through the host's memory. `peak_flops`: FLOP/s of a large product. Pure.
[[nodiscard]] HostMemoryLoad host_memory_load(const RunOptions& options, std::int64_t vocabulary_size,
                                              double s_per_byte, double peak_flops);

/// Connects the ranks of `group` as parallel.exchange has it. auto is peer memory for what ZeRO-1 divides
/// among all of them, and NCCL's kernels otherwise, whose all-reduce is the slower for memory that others
/// have mapped; of two GPUs of one host under ZeRO-1 the host's memory where its load is light: that is
/// measured (in under a second). `kept`: what an earlier session of the run took. Returns what auto is and
/// why, in words, where it had a choice; else "". Collective.
std::string connect_ranks(DeviceGroup& group, const RunOptions& options, std::int64_t vocabulary_size,
                          std::optional<parallel::Movers> kept = std::nullopt);

/// What moves gradients and parameters between these ranks, in words; empty for one alone.
[[nodiscard]] std::string moved_by(const parallel::Communicator& ranks);

}  // namespace sluice::train
