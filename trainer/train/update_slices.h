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
/// optimizer's buffers, and of `copy`, if defined: another buffer of the arena, which gets what is computed
/// with.
[[nodiscard]] std::vector<kernels::UpdateSlice> slices_to_update(const Replica& replica,
                                                                 const optim::AdamW& optimizer,
                                                                 const at::Tensor& blocks,
                                                                 const optim::Range& within,
                                                                 const at::Tensor& copy = {});

/// A step's updates, part by part. Neighbours of a part are one slice.
struct UpdateOrder {
  std::vector<kernels::UpdateSlice> first;  ///< GatheredEarly
  std::vector<kernels::UpdateSlice> most;
  std::vector<kernels::UpdateSlice> last;  ///< the last bucket, where its gradients are awaited until then
};
/// Of parameters that ranks gather, what is updated before the rest, which hides that it is gathered: what
/// all ranks hold, or the bucket that forward uses first.
enum class GatheredEarly { kNothing, kHeldByAll, kUsedFirst };
struct UpdateParts {
  GatheredEarly early = GatheredEarly::kNothing;
  bool awaits_last = false;
};
[[nodiscard]] UpdateOrder order_updates(const Replica& replica, const optim::AdamW& optimizer,
                                        const at::Tensor& blocks, const UpdateParts& parts,
                                        const at::Tensor& copy = {});

}  // namespace sluice::train
