#pragma once

#include <cstdint>

namespace sluice::dataio {

/// How samples are cut from a split of T tokens, for windows of seq_len + 1 tokens (inputs and shifted
/// targets).
enum class WindowMode {
  kSequential,  ///< sample k covers tokens [k n, k n + n]: each token of an epoch is an input exactly once
  /// sample k starts at k n + o, o drawn from 0 ... n - 1 for each (seed, epoch, k), the last sample's o from
  /// what room there is: labml's loader. Dropped tokens are counted as if all o were zero
  kRandomOffset,
};

/// A split seen as samples. Tokens that do not fill a last window are dropped, and counted by
/// dropped_tokens().
struct WindowPlan {
  std::int64_t split_tokens = 0;
  std::int64_t seq_len = 0;
  WindowMode mode = WindowMode::kSequential;

  [[nodiscard]] std::int64_t samples_per_epoch() const;
  [[nodiscard]] std::int64_t dropped_tokens() const;
};

/// One sample's place: tokens [begin, end) of the split, end - begin == seq_len + 1.
struct Window {
  std::int64_t sample = 0;  ///< sample of the epoch, 0 ... samples_per_epoch - 1
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// Global sample index -> window, a pure function of (seed, epoch, index) with O(1) state: a keyed
/// permutation of the epoch's samples (format-preserving Feistel network with cycle walking). An index is
/// global over epochs: epoch = index / samples_per_epoch. World size, ranks, micro-batches and threads never
/// enter.
class Order {
 public:
  /// Throws std::invalid_argument if the plan has no sample.
  Order(WindowPlan plan, std::uint64_t seed);

  [[nodiscard]] Window window(std::int64_t global_index) const;
  [[nodiscard]] std::int64_t samples_per_epoch() const { return samples_; }
  [[nodiscard]] const WindowPlan& plan() const { return plan_; }

 private:
  WindowPlan plan_;
  std::uint64_t seed_;
  std::int64_t samples_;
};

/// A run of consecutive global sample indices.
struct SampleRange {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// Who takes which samples of a step: the global batch p is [p G, (p + 1) G); each data-parallel rank takes a
/// contiguous slice, slices differ by at most one sample; each slice is cut into micro-batches of
/// `micro_batch` rows. All ranks run the same number of micro-batches; missing rows are padded with samples
/// of weight zero.
struct Slicing {
  std::int64_t global_batch = 1;
  std::int64_t micro_batch = 1;
  std::int64_t world_size = 1;
  std::int64_t rank = 0;

  [[nodiscard]] std::int64_t micro_batches() const;
  [[nodiscard]] SampleRange slice(std::int64_t step) const;
  /// Samples of micro-batch `micro` of this rank; count may be below micro_batch, and zero.
  [[nodiscard]] SampleRange micro_slice(std::int64_t step, std::int64_t micro) const;
};

}  // namespace sluice::dataio
