#pragma once

#include <vector>

#include "trainer/kernels/device_update.h"
#include "trainer/optim/adamw.h"
#include "trainer/train/replica.h"

namespace sluice::train {

/// What this rank updates: gradients lie in the arena, moments one after another, parameters as the replica
/// has them. Views of the replica's and the optimizer's buffers.
[[nodiscard]] std::vector<kernels::UpdateSlice> slices_to_update(const Replica& replica,
                                                                 const optim::AdamW& optimizer);

}  // namespace sluice::train
