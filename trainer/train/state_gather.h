#pragma once

#include "parallel/arena.h"
#include "parallel/communicator.h"
#include "trainer/train/checkpoint.h"

// Between the state as ranks hold it and as a checkpoint does. A rank's parameters and moments are whole
// buffers of the layout or (ZeRO-1) the slices ArenaLayout::owned(rank) one after another. Which it is shows
// in their size. A checkpoint knows nothing of ranks: rank 0 has whole buffers for it.

namespace sluice::train {

/// A buffer of rank 0 to write all of a state to: `live` itself, but where it holds slices alone zeros in
/// host memory.
[[nodiscard]] at::Tensor whole_buffer(const parallel::ArenaLayout& layout, const at::Tensor& live);
/// For parameters and moments.
[[nodiscard]] StateBuffers whole_buffers(const parallel::ArenaLayout& layout, const StateBuffers& live);

/// Collective. Gives rank 0's `whole`, from whole_buffer() and not looked at elsewhere, to every rank's
/// `live`.
void share_buffer(const parallel::ArenaLayout& layout, const at::Tensor& whole, const at::Tensor& live,
                  parallel::Communicator& communicator);

/// Collective. Gives rank 0's state to every rank's `live` buffers. `whole`: rank 0's, from whole_buffers();
/// not looked at elsewhere.
void share_state(const parallel::ArenaLayout& layout, const StateBuffers& whole, const StateBuffers& live,
                 parallel::Communicator& communicator);

/// Collective. Copies the state into `host`, whole buffers in the host's memory on rank 0 (page-locked ones
/// where `live` is on a GPU: there it is only enqueued on the current stream); not looked at elsewhere.
/// Parameters held whole must be rank 0's own to the last slice.
void gather_state(const parallel::ArenaLayout& layout, const StateBuffers& live, const StateBuffers& host,
                  parallel::Communicator& communicator);
/// The same, and waits for it.
void gather_state_now(const parallel::ArenaLayout& layout, const StateBuffers& live, const StateBuffers& host,
                      parallel::Communicator& communicator);

}  // namespace sluice::train
