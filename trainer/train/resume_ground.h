#pragma once

#include <string>
#include <vector>

#include "trainer/train/checkpoint.h"

namespace sluice::train {

/// What a run resumed from `before` does on other ground than the run that wrote it, and so not bit for bit
/// what that one would have done: device, number of ranks, lines of the build, measured choices. What
/// `before` does not say (it is older) counts as equal.
[[nodiscard]] std::vector<std::string> ground_differences(const CheckpointInfo& before,
                                                          const CheckpointInfo& now);

/// One warning of them all; empty where nothing differs.
[[nodiscard]] std::string ground_warning(const CheckpointInfo& before, const CheckpointInfo& now);

}  // namespace sluice::train
