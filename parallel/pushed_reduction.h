#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "parallel/arena.h"
#include "parallel/communicator.h"
#include "parallel/side_stream.h"

namespace sluice::parallel {

/// The reduce-scatter of an arena's buckets between ranks that reach one another's memory, or exchange
/// through the host's. Of a bucket that is ready each rank sends what belongs to the others' slices to memory
/// of theirs; once all have, each adds what came to its own, in rank order: the bits of OrderedReduction. On
/// a GPU copy engines send, so that the cores are backward's alone until the sums; nothing blocks the host,
/// and all can be captured.
class PushedReduction {
 public:
  /// Whether ranks have what it needs: peer or host memory.
  [[nodiscard]] static bool serves(const Communicator& ranks);

  /// Collective. Of float32 `gradients`, an exchange buffer in the buckets of `layout`, held by all of
  /// `ranks`, which it serves. All outlive it. What a rank
  /// has sent of one bucket makes place for what comes of a later one; there is room of its own for that of
  /// the first, and of any that is larger than those before it.
  PushedReduction(const ArenaLayout& layout, const at::Tensor& gradients, Communicator& ranks);

  /// Before the buckets of a step: the others have added up what came to them in the step before, padding is
  /// zero again.
  void start();
  /// Begins with bucket `index`, the one after the last begun, whose gradients the current stream has. After
  /// the Work's wait() what belongs to this rank has come.
  Work exchange_async(std::int64_t index);
  /// Adds, on the current stream, what has come of the first `buckets`: afterwards this rank's slices of them
  /// hold their sums, the others' are unspecified. Together they take one launch for each other rank, or few.
  /// All are added before gradients are written again.
  void add(std::int64_t buckets);

 private:
  /// Where what comes of a bucket is written: in the slices of bucket `behind`, or if there is none in the
  /// room, from `offset`.
  struct Place {
    std::optional<std::size_t> behind;
    std::int64_t offset = 0;
  };

  [[nodiscard]] at::Tensor slice_of(const at::Tensor& flat, std::int64_t bucket, std::int64_t rank) const;
  /// Of rank `owner`, whose buffers these are: where rank `from` writes its part of a bucket.
  [[nodiscard]] at::Tensor place_of(const at::Tensor& flat, const at::Tensor& room, std::int64_t bucket,
                                    std::int64_t owner, std::int64_t from) const;
  void push(std::int64_t bucket);
  [[nodiscard]] Work deal(std::int64_t bucket);

  const ArenaLayout& layout_;
  at::Tensor gradients_;
  Communicator& ranks_;
  std::vector<Place> places_;  ///< by bucket
  at::Tensor padding_;         ///< int64: its positions in the flat buffer, where what came stays otherwise
  at::Tensor room_;
  // The others' of both, by rank without this one, of ranks that have peer memory.
  std::vector<at::Tensor> their_gradients_;
  std::vector<at::Tensor> their_rooms_;
  std::vector<SideStream> streams_;  ///< of each bucket
  std::int64_t added_ = 0;           ///< buckets of this step
};

}  // namespace sluice::parallel
