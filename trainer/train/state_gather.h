#pragma once

#include <cstdint>

#include "parallel/communicator.h"
#include "trainer/train/checkpoint.h"
#include "trainer/train/state_layout.h"

// Between the state as ranks hold it and as a checkpoint does. A rank's parameters and moments are buffers of
// all of its arena or (ZeRO-1) its slices ArenaLayout::owned(rank) one after another. Which it is shows in
// their size. A checkpoint knows nothing of ranks: rank 0 has whole buffers of the logical layout for it.
// What other ranks have of the state travels in chunks: no rank needs room for more of it.

namespace sluice::train {

inline constexpr std::int64_t kStateChunk = std::int64_t{1} << 24;  ///< elements

/// A buffer of rank 0 to write all of a state to: `live` itself, but where it holds a part alone zeros in
/// host memory.
[[nodiscard]] at::Tensor whole_buffer(const StateLayout& layout, const at::Tensor& live);
/// For parameters and moments.
[[nodiscard]] StateBuffers whole_buffers(const StateLayout& layout, const StateBuffers& live);

/// Collective. Gives rank 0's `whole`, from whole_buffer() and not looked at elsewhere, to every rank's
/// `live`.
void share_buffer(const StateLayout& layout, const at::Tensor& whole, const at::Tensor& live,
                  parallel::Communicator& communicator, std::int64_t chunk = kStateChunk);

/// Collective. Gives rank 0's state to every rank's `live` buffers. `whole`: rank 0's, from whole_buffers();
/// not looked at elsewhere.
void share_state(const StateLayout& layout, const StateBuffers& whole, const StateBuffers& live,
                 parallel::Communicator& communicator);

/// Collective. Copies what all ranks have in `live` into `host`, a whole buffer in the host's memory on rank
/// 0 (a page-locked one where `live` is on a GPU: there it is only enqueued on the current stream); not
/// looked at elsewhere. What several ranks hold is read where the first of them has it.
void gather_buffer(const StateLayout& layout, const at::Tensor& live, const at::Tensor& host,
                   parallel::Communicator& communicator, std::int64_t chunk = kStateChunk);
/// The same of a state.
void gather_state(const StateLayout& layout, const StateBuffers& live, const StateBuffers& host,
                  parallel::Communicator& communicator);
/// And waits for it.
void gather_state_now(const StateLayout& layout, const StateBuffers& live, const StateBuffers& host,
                      parallel::Communicator& communicator);

}  // namespace sluice::train
