#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace sluice::kernels {

/// How often a piece of work is timed: for about `seconds`, within these bounds.
struct RepeatBudget {
  double seconds = 0;
  std::int64_t least = 3;
  std::int64_t most = 200;
  /// Enqueued before the repetitions that count, if given: keeps a GPU at work until the host is ahead of it.
  std::function<void()> head_start{};
};

/// Sorted seconds of repetitions of `work`, after two that do not count. A GPU's lie between events of its
/// current stream, so that none waits for the host. Blocks.
[[nodiscard]] std::vector<double> repeat(const std::function<void()>& work, const c10::Device& device,
                                         const RepeatBudget& budget);

/// Gives back what the device's allocator keeps for nobody.
void release_memory(const c10::Device& device);

}  // namespace sluice::kernels
