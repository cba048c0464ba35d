#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "trainer/train/checkpoint_writer.h"
#include "trainer/train/options.h"

namespace sluice::train {

struct CheckpointBenchmark {
  std::int64_t parameters = 0;
  std::string device;                      ///< parallel::device_name()
  double setup_s = 0;                      ///< to take the host memory of a snapshot
  std::vector<WrittenCheckpoint> written;  ///< rank 0's; empty elsewhere
  std::vector<double> verify_s;            ///< of every digest, once for each written
  std::vector<double> load_s;              ///< from the files until every rank has its state
};

/// Writes `repeats` checkpoints of a state of random numbers, as a run with these options holds it, into
/// `directory`, and loads each again. Neither trains nor cleans up. Collective.
[[nodiscard]] CheckpointBenchmark benchmark_checkpoints(const RunOptions& options,
                                                        std::int64_t vocabulary_size,
                                                        const std::filesystem::path& directory,
                                                        std::int64_t repeats, parallel::Communicator& world);

}  // namespace sluice::train
