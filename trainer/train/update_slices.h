#pragma once

#include <vector>

#include "trainer/kernels/device_update.h"
#include "trainer/optim/adamw.h"
#include "trainer/train/replica.h"

namespace sluice::train {

/// uint8 on the replica's device: a kernels::BlockUpdate for each block of kDecayBlock elements of the arena.
/// Entries begin at such blocks, so what decays and what does not is never mixed; a block of which a part is
/// idle decays.
[[nodiscard]] at::Tensor block_updates(const Replica& replica);

/// What this rank updates `within` a range of the arena, as `blocks` of the whole arena say: gradients lie in
/// the arena, moments one after another, parameters as the replica has them. Views of the replica's and the
/// optimizer's buffers.
[[nodiscard]] std::vector<kernels::UpdateSlice> slices_to_update(const Replica& replica,
                                                                 const optim::AdamW& optimizer,
                                                                 const at::Tensor& blocks,
                                                                 const optim::Range& within);

}  // namespace sluice::train
