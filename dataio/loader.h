#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "dataio/corpus.h"
#include "dataio/mixed_order.h"
#include "dataio/order.h"

namespace sluice::dataio {

/// Rows that are made of windows, on the loader's threads: `make` gets a sample's global index, its window
/// and a row of `width` to fill, from several threads at once.
struct RowForm {
  std::int64_t width = 0;
  std::function<void(std::int64_t sample, std::span<const std::int32_t> window, std::span<std::int32_t> row)>
      make;
};

struct LoaderOptions {
  /// Micro-batches prefetched at most; more where they are so small (128 KiB in all, or fewer rows than
  /// twice `reader_threads`) that threads would be woken for too little work.
  std::int64_t ring_batches = 4;
  /// Reads in flight at most. Threads are started only while reads are slow: one serves from the page cache.
  std::int64_t reader_threads = 32;
  /// What a window becomes in the ring; of width 0: it is kept as it is, seq_len + 1 tokens.
  RowForm form;
  /// Memory of the ring; null: ordinary memory. A GPU trainer gives pinned memory here.
  std::function<std::shared_ptr<void>(std::size_t bytes)> allocate;
};

/// One micro-batch of this rank. `tokens` is [micro_batch, seq_len + 1 or the form's width] int32, row-major;
/// rows from `rows` on are padding (zeros, weight zero). Valid until the lease is destroyed, which returns
/// the buffer to the ring.
class Batch {
 public:
  std::int64_t step = 0;
  std::int64_t micro = 0;
  SampleRange samples;
  std::int64_t rows = 0;
  std::span<const std::int32_t> tokens;
  std::shared_ptr<void> lease;
};

/// Prefetching batches in the order that `MixedOrder` and `Slicing` define. Threads of its own fill a bounded
/// ring; next() waits for the next micro-batch (filling rows of it itself where no thread has begun to) and
/// rethrows a reader's error, again each time until seek(). One consumer thread.
class Loader {
 public:
  /// `readers`: of the order's parts, one each. Throws std::invalid_argument where they are not.
  Loader(std::vector<std::shared_ptr<SplitReader>> readers, MixedOrder order, Slicing slicing,
         LoaderOptions options, std::int64_t first_step);
  /// Of one split.
  Loader(std::shared_ptr<SplitReader> reader, const Order& order, Slicing slicing, LoaderOptions options,
         std::int64_t first_step);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// Throws std::logic_error if every batch of the ring is still leased.
  [[nodiscard]] Batch next();
  /// Drops what was prefetched and goes on with micro-batch 0 of `step`.
  void seek(std::int64_t step);
  /// Seconds that next() has waited since construction.
  [[nodiscard]] double waited_s() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;  ///< shared with the leases
};

}  // namespace sluice::dataio
