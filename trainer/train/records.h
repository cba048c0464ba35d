#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "dataio/mixed_order.h"
#include "dataio/order.h"
#include "trainer/train/evaluate.h"
#include "trainer/train/event_file.h"
#include "trainer/train/files.h"
#include "trainer/train/meter.h"
#include "trainer/train/options.h"
#include "trainer/train/step.h"

// metrics.jsonl and the ledger: JSON lines, written by rank 0 alone (docs/formats.md). A line's "step" counts
// from 1: the steps done when it was written.

namespace sluice::train {

struct WrittenCheckpoint;

/// What is left of a file of JSON lines after cut_lines().
struct LinesKept {
  std::int64_t lines = 0;
  std::int64_t last_valid_step = -1;  ///< of the lines of kind "valid"; -1: none
};

/// Ends the file before its first line whose "step" is above `step`; a torn last line goes too. A missing
/// file is empty. Throws InputError naming file and line for anything else that is no JSON object with a
/// step.
LinesKept cut_lines(const std::filesystem::path& file, std::int64_t step);

/// The lines of a run that is going on.
class RunRecords {
 public:
  /// Appends to RUN/metrics.jsonl and, if options.ledger names one, to the ledger; with options.tensorboard
  /// to RUN's event file. `steps`: done before.
  RunRecords(const std::filesystem::path& run_directory, const TrainOptions& options,
             dataio::MixedOrder order, std::int64_t steps = 0);

  /// `steps` done, this one included; `tokens` seen in all.
  void step(std::int64_t steps, std::int64_t tokens, const StepResult& result, const StepMetrics& metrics);
  /// A step that was not taken: loss or gradient was not finite.
  void skipped(std::int64_t steps, std::int64_t tokens, const dataio::SampleRange& samples,
               const StepResult& result);
  void valid(std::int64_t steps, std::int64_t tokens, const Validation& validation);
  /// Once it is on disk: after lines of later steps, it may be.
  void checkpoint(const WrittenCheckpoint& written);
  /// What a step consumed.
  void consumed(std::int64_t steps, const dataio::SampleRange& samples);
  /// Everything on disk: before a checkpoint, so that no checkpoint knows of a step that the records lost.
  void sync();

 private:
  TrainOptions options_;
  dataio::MixedOrder order_;
  LineFile metrics_;
  std::optional<EventFile> events_;
  std::optional<LineFile> ledger_;
};

}  // namespace sluice::train
