#pragma once

#include "parallel/arena.h"
#include "parallel/communicator.h"
#include "trainer/train/checkpoint.h"

// Between the state as ranks hold it and as a checkpoint does. Every rank holds all parameters; its moments
// are whole buffers of the layout too, or (ZeRO-1) the slices ArenaLayout::owned(rank) one after another.
// Which it is shows in their size. A checkpoint knows nothing of ranks: rank 0 has whole buffers for it.

namespace sluice::train {

/// Rank 0's buffers to load a checkpoint into: `live` itself, but for moments of which it holds slices alone:
/// zeros in host memory in their place.
[[nodiscard]] StateBuffers whole_buffers(const parallel::ArenaLayout& layout, const StateBuffers& live);

/// Collective. Gives rank 0's state to every rank's `live` buffers. `whole`: rank 0's, from whole_buffers();
/// not looked at elsewhere.
void share_state(const parallel::ArenaLayout& layout, const StateBuffers& whole, const StateBuffers& live,
                 parallel::Communicator& communicator);

/// Collective, blocking. Copies the state into `host`, whole buffers in the host's memory on rank 0
/// (page-locked ones where `live` is on a GPU); not looked at elsewhere. The parameters must be rank 0's own
/// to the last slice.
void gather_state(const parallel::ArenaLayout& layout, const StateBuffers& live, const StateBuffers& host,
                  parallel::Communicator& communicator);

}  // namespace sluice::train
