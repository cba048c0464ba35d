#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <vector>

#include "dataio/tokenizer.h"
#include "parallel/arena.h"
#include "trainer/train/checkpoint.h"
#include "trainer/train/options.h"

namespace sluice::train {

/// A checkpoint that is on disk.
struct WrittenCheckpoint {
  std::int64_t step = 0;
  std::filesystem::path directory;
  /// That the training loop stood still: for the checkpoint before, and for as much of the copy as its caller
  /// waited for.
  double stall_s = 0;
  double write_s = 0;      ///< of digests and writing, beside training
  std::int64_t bytes = 0;  ///< of all its files
};

/// Writes checkpoints while training goes on: the state is copied to buffers in host memory, and a thread
/// makes digests and files of the copy. One is written at a time; what write_checkpoint() promises of a kill
/// holds for each. Not for several threads at once.
class CheckpointWriter {
 public:
  /// Takes host memory for one snapshot of buffers of this layout and type, page-locked where `device`, which
  /// they are copied from, is a GPU. `layout` and `tokenizer` outlive it. Throws InputError where the host
  /// has not that much.
  CheckpointWriter(std::filesystem::path run_directory, const parallel::ArenaLayout& layout,
                   at::ScalarType dtype, c10::Device device, const dataio::Tokenizer& tokenizer,
                   const CheckpointOptions& retention);
  /// Waits for the one being written; its fault is lost.
  ~CheckpointWriter() = default;
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Fills the host's buffers, or begins to: what it returns, unless empty, waits until they are full.
  using Copy = std::function<std::function<void()>(const StateBuffers& host)>;

  /// Waits for the checkpoint before, lets `copy` fill the buffers, and begins to write them once they are
  /// full. Throws what stopped the checkpoint before.
  void snapshot(CheckpointInfo info, const Copy& copy);
  /// Waits until none is being written. Throws what stopped it.
  void finish();
  /// Those that reached the disk since the last call, in their order; waits for none. Throws what stopped
  /// one.
  [[nodiscard]] std::vector<WrittenCheckpoint> take_written();

 private:
  [[nodiscard]] WrittenCheckpoint write(const CheckpointInfo& info, double stall_s) const;

  std::filesystem::path run_directory_;
  const parallel::ArenaLayout& layout_;
  const dataio::Tokenizer& tokenizer_;
  CheckpointOptions retention_;
  StateBuffers host_;
  std::vector<WrittenCheckpoint> written_;
  std::future<WrittenCheckpoint> running_;  ///< last: goes first, and waits for the thread
};

}  // namespace sluice::train
