#include "trainer/train/state_gather.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "parallel/device_stream.h"
#include "parallel/device_wait.h"

namespace sluice::train {

namespace {

using parallel::Holders;
using parallel::Range;

enum class Form { kArena, kSlices };

Form form_of(const parallel::ArenaLayout& arena, const at::Tensor& state) {
  if (state.numel() == arena.size()) return Form::kArena;
  std::int64_t slices = 0;
  for (const Range& range : arena.owned(0)) slices += range.numel();
  TORCH_CHECK(state.numel() == slices, "a state of ", state.numel(), " elements is neither the whole of ",
              arena.size(), " nor a slice of ", arena.world());
  return Form::kSlices;
}

/// A run of a rank's arena that it has for all of those that hold it.
struct Piece {
  std::int64_t owner = 0;
  Range range;
  Holders holders = Holders::kAllRanks;
};

/// All of the logical state, by ascending begin: each element once.
std::vector<Piece> pieces_of(const parallel::ArenaLayout& arena, Form form) {
  std::vector<Piece> pieces;
  for (const std::size_t place : arena.in_order_of_use()) {
    const parallel::Bucket& bucket = arena.buckets()[place];
    const auto index = static_cast<std::int64_t>(place);
    const bool by_place = bucket.holders == Holders::kSamePlace;
    const std::int64_t owners =
        form == Form::kSlices ? arena.world() : (by_place ? arena.sequence_ranks() : 1);
    for (std::int64_t owner = 0; owner < owners; ++owner)
      pieces.push_back(
          {.owner = owner,
           .range = form == Form::kSlices ? arena.slice(index, owner) : Range{bucket.begin, bucket.end},
           .holders = bucket.holders});
  }
  return pieces;
}

/// What `range` of the arena of a rank at `place` has of the logical state: `visit(at, logical, numel)`, `at`
/// counted from the range's begin.
template <typename Visit>
void for_each_run(const StateLayout& layout, std::int64_t place, const Range& range, const Visit& visit) {
  const std::vector<Segment>& segments = layout.segments(place);
  auto segment = std::ranges::lower_bound(segments, range.begin, std::ranges::less_equal{},
                                          [](const Segment& s) { return s.held + s.numel; });
  for (; segment != segments.end() && segment->held < range.end; ++segment) {
    const std::int64_t begin = std::max(range.begin, segment->held);
    const std::int64_t end = std::min(range.end, segment->held + segment->numel);
    visit(begin - range.begin, segment->logical + begin - segment->held, end - begin);
  }
}

void copy_out(const at::Tensor& to, const at::Tensor& from) {
  if (from.is_cuda())
    parallel::copy_to_host(to, from);
  else
    to.copy_(from);
}

/// Calls `visit(piece, chunk)` for every chunk of every piece, a range of the owner's arena.
template <typename Visit>
void for_each_chunk(const std::vector<Piece>& pieces, std::int64_t chunk, const Visit& visit) {
  for (const Piece& piece : pieces)
    for (std::int64_t begin = piece.range.begin; begin < piece.range.end; begin += chunk)
      visit(piece, Range{begin, std::min(begin + chunk, piece.range.end)});
}

/// Room for what comes from other ranks.
at::Tensor make_scratch(const std::vector<Piece>& pieces, std::int64_t chunk, const at::Tensor& live) {
  std::int64_t largest = 0;
  for (const Piece& piece : pieces)
    if (piece.owner != 0) largest = std::max(largest, piece.range.numel());
  return at::empty({std::min(chunk, largest)}, live.options());
}

/// One rank's state: where its own elements are in `live`.
class Held {
 public:
  Held(const StateLayout& layout, const at::Tensor& live, std::int64_t rank)
      : arena_(layout.held()), live_(live), rank_(rank), form_(form_of(arena_, live)) {}

  [[nodiscard]] std::vector<Piece> pieces() const { return pieces_of(arena_, form_); }
  [[nodiscard]] bool has_arena() const { return form_ == Form::kArena; }
  [[nodiscard]] std::int64_t place(std::int64_t rank) const { return rank % arena_.sequence_ranks(); }
  /// Whether this rank has a piece's elements.
  [[nodiscard]] bool has(const Piece& piece) const {
    if (form_ == Form::kSlices) return piece.owner == rank_;
    return piece.holders == Holders::kAllRanks || place(piece.owner) == place(rank_);
  }
  /// A range of this rank's arena, in one of its slices if those are all it has.
  [[nodiscard]] at::Tensor at(const Range& range) const {
    if (form_ == Form::kArena) return live_.narrow(0, range.begin, range.numel());
    std::int64_t before = 0;
    for (const Range& slice : arena_.owned(rank_)) {
      if (range.begin >= slice.begin && range.end <= slice.end)
        return live_.narrow(0, before + range.begin - slice.begin, range.numel());
      before += slice.numel();
    }
    TORCH_CHECK(false, "rank ", rank_, " has no elements [", range.begin, ", ", range.end, ")");
  }

 private:
  const parallel::ArenaLayout& arena_;
  const at::Tensor& live_;
  std::int64_t rank_;
  Form form_;
};

}  // namespace

at::Tensor whole_buffer(const StateLayout& layout, const at::Tensor& live) {
  const Form form = form_of(layout.held(), live);
  if (form == Form::kArena && layout.is_logical()) return live;
  return layout.logical().allocate(live.scalar_type(), at::kCPU);
}

StateBuffers whole_buffers(const StateLayout& layout, const StateBuffers& live) {
  return {.parameters = whole_buffer(layout, live.parameters),
          .first_moment = whole_buffer(layout, live.first_moment),
          .second_moment = whole_buffer(layout, live.second_moment)};
}

void share_buffer(const StateLayout& layout, const at::Tensor& whole, const at::Tensor& live,
                  parallel::Communicator& communicator, std::int64_t chunk) {
  const Held held(layout, live, communicator.rank());
  if (layout.is_logical() && held.has_arena()) {
    communicator.broadcast(live, 0);  // `whole` is rank 0's `live`
    return;
  }
  const at::Tensor scratch = at::empty({std::min(chunk, layout.held().size())}, live.options());
  for_each_chunk(held.pieces(), chunk, [&](const Piece& piece, const Range& range) {
    const at::Tensor values = scratch.narrow(0, 0, range.numel());
    if (communicator.rank() == 0) {
      values.zero_();  // padding stays zero
      for_each_run(layout, held.place(piece.owner), range,
                   [&](std::int64_t at, std::int64_t logical, std::int64_t numel) {
                     values.narrow(0, at, numel).copy_(whole.narrow(0, logical, numel));
                   });
    }
    communicator.broadcast(values, 0);
    if (held.has(piece)) held.at(range).copy_(values);
  });
}

void gather_buffer(const StateLayout& layout, const at::Tensor& live, const at::Tensor& host,
                   parallel::Communicator& communicator, std::int64_t chunk) {
  const Held held(layout, live, communicator.rank());
  const std::vector<Piece> pieces = held.pieces();
  const at::Tensor scratch = make_scratch(pieces, chunk, live);
  for_each_chunk(pieces, chunk, [&](const Piece& piece, const Range& range) {
    const bool own = piece.owner == communicator.rank();
    if (piece.owner == 0 && !own) return;
    const at::Tensor values = own ? held.at(range) : scratch.narrow(0, 0, range.numel());
    if (piece.owner != 0) communicator.broadcast(values, piece.owner);
    if (communicator.rank() != 0) return;
    for_each_run(layout, held.place(piece.owner), range,
                 [&](std::int64_t at, std::int64_t logical, std::int64_t numel) {
                   copy_out(host.narrow(0, logical, numel), values.narrow(0, at, numel));
                 });
  });
}

void share_state(const StateLayout& layout, const StateBuffers& whole, const StateBuffers& live,
                 parallel::Communicator& communicator) {
  share_buffer(layout, whole.parameters, live.parameters, communicator);
  share_buffer(layout, whole.first_moment, live.first_moment, communicator);
  share_buffer(layout, whole.second_moment, live.second_moment, communicator);
}

void gather_state(const StateLayout& layout, const StateBuffers& live, const StateBuffers& host,
                  parallel::Communicator& communicator) {
  gather_buffer(layout, live.parameters, host.parameters, communicator);
  gather_buffer(layout, live.first_moment, host.first_moment, communicator);
  gather_buffer(layout, live.second_moment, host.second_moment, communicator);
}

void gather_state_now(const StateLayout& layout, const StateBuffers& live, const StateBuffers& host,
                      parallel::Communicator& communicator) {
  gather_state(layout, live, host, communicator);
  if (!live.parameters.is_cuda()) return;
  parallel::DeviceEvent done;
  done.record();
  parallel::wait_for_event(done, communicator, "copy of the state from the GPU");
}

}  // namespace sluice::train
