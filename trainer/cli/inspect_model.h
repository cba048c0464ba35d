#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trainer/cli/arguments.h"
#include "trainer/model/flops.h"
#include "trainer/model/options.h"
#include "trainer/train/memory_estimate.h"
#include "trainer/train/options.h"

namespace sluice::cli {

/// Parameters of one part of a model: the embedding, one kind of matrix of all blocks, ...
struct ModelPart {
  std::string name;
  std::int64_t tensors = 0;
  std::int64_t parameters = 0;
};

/// In the order of the model; blocks are taken together ("blocks.*.expand.weight").
[[nodiscard]] std::vector<ModelPart> model_parts(const model::ModelOptions& options,
                                                 std::int64_t vocabulary_size);

struct ParameterCounts {
  std::int64_t all = 0;
  std::int64_t without_embeddings = 0;  ///< of tokens and positions, and an output projection of its own
  std::int64_t without_spatial = 0;     ///< weights between positions: W, and an MLP-Mixer's products
};
[[nodiscard]] ParameterCounts count_parameters(const std::vector<ModelPart>& parts);

/// What a run of these settings does and takes on one of its ranks.
struct RankFigures {
  std::string device;                    ///< cpu | cuda
  std::int64_t predicted_positions = 0;  ///< of a sequence
  model::FlopCount flops;
  train::MemoryEstimate memory;
};
/// Throws InputError for a precision that the device does not have, a recomputation that the model does not
/// have, and a parallel.sp that does not divide the ranks or that the model cannot have.
[[nodiscard]] RankFigures rank_figures(const train::RunOptions& options, std::int64_t vocabulary_size,
                                       std::int64_t ranks);

/// The memory of rank_figures alone, unchecked.
[[nodiscard]] train::MemoryEstimate rank_memory(const train::RunOptions& options,
                                                std::int64_t vocabulary_size, std::int64_t ranks);

/// Of `sluice inspect --model`: --model itself, --vocabulary, --ranks, --memory, and settings over the
/// file's.
[[nodiscard]] std::vector<Flag> model_flags();
/// The file's settings with those of flags over them. Throws InputError.
[[nodiscard]] train::RunOptions model_settings(const Arguments& arguments);
/// --memory in bytes: as given, or of this machine's GPU. None: it was not given. Throws InputError.
[[nodiscard]] std::optional<std::int64_t> device_memory(const Arguments& arguments);

}  // namespace sluice::cli
