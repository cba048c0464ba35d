#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dataio/tokenizer.h"
#include "parallel/arena.h"
#include "trainer/train/options.h"

// Run directory:  RUN/resolved.ini  metrics.jsonl  checkpoints/latest  checkpoints/step-000100/...
// Checkpoint:     model.safetensors (weights, optimizer's state)  manifest.json (tokenizer; written last)
// Version 1 kept optimizer.safetensors and tokenizer.json (tokenizer.model) beside them; it is read, too.

namespace sluice::train {

/// Everything a run needs to go on, apart from its options: logical tensors by name, and counters.
struct TrainingState {
  std::int64_t step = 0;         ///< steps done
  std::int64_t tokens = 0;       ///< tokens seen
  std::int64_t next_sample = 0;  ///< global sample index that the next step starts at
};

/// One corpus of a mixture that a run was trained on.
struct CorpusRecord {
  std::string fingerprint;
  double weight = 1;
};

/// What a checkpoint says of itself.
struct CheckpointInfo {
  std::filesystem::path directory;
  TrainingState state;
  model::ModelOptions model;
  std::int64_t vocabulary_size = 0;
  std::string corpus_fingerprint;       ///< of a mixture: a digest of `corpora`
  std::vector<CorpusRecord> corpora{};  ///< of a mixture, in its order; else empty
  std::int64_t world_size = 1;
  std::string device{};  ///< GPU model, or "cpu"; empty in checkpoints older than the field
  std::string build{};   ///< of the program and its libraries, a line each; empty likewise
  std::map<std::string, std::int64_t> choices{};  ///< measured once, kept by name; empty likewise
  /// Table of the linear products' algorithms (product_choice.h); empty: none was chosen; nothing in
  /// checkpoints older than the field.
  std::optional<std::string> products{};
  std::string resolved_ini;  ///< the options of the run that wrote it
  dataio::TokenizerFiles tokenizer{};
};

/// Flat buffers in one layout, on the CPU.
struct StateBuffers {
  at::Tensor parameters;
  at::Tensor first_moment;
  at::Tensor second_moment;
};

/// Writes RUN/checkpoints/step-NNNNNN: to a temporary name, files and directory fsynced, renamed, then
/// `latest` replaced likewise; then prunes by keep, keep_every and at. Rank 0 alone calls it. Throws
/// std::system_error naming the file.
std::filesystem::path write_checkpoint(const std::filesystem::path& run_directory, const CheckpointInfo& info,
                                       const parallel::ArenaLayout& layout, const StateBuffers& buffers,
                                       const dataio::Tokenizer& tokenizer,
                                       const CheckpointOptions& retention);

/// Writes a checkpoint of weights alone, without an optimizer's state, as `directory`: to a temporary name,
/// fsynced, renamed. `parameters`: flat, on the CPU. Throws InputError where there is something of that name,
/// std::system_error naming the file.
void write_weights(const std::filesystem::path& directory, const CheckpointInfo& info,
                   const parallel::ArenaLayout& layout, const at::Tensor& parameters,
                   const dataio::Tokenizer& tokenizer);

/// Whether a tensor of this name in model.safetensors is the optimizer's, and no weight.
[[nodiscard]] bool is_moment(std::string_view tensor);

/// The tokenizer that a checkpoint carries. Throws dataio::DataError.
[[nodiscard]] std::unique_ptr<dataio::Tokenizer> load_tokenizer(const CheckpointInfo& info);

/// float32 or float64: of the checkpoint's weights.
[[nodiscard]] at::ScalarType weights_type(const CheckpointInfo& info);

/// A checkpoint directory itself, or the newest good checkpoint of a run directory: every digest is checked;
/// a bad one is passed over with a message in `warnings`. nullopt: the run has none. Throws InputError for a
/// path that is neither.
[[nodiscard]] std::optional<CheckpointInfo> find_checkpoint(const std::filesystem::path& path,
                                                            std::vector<std::string>& warnings);

/// Copies tensors by name into the buffers (dtype converted). A null buffer is skipped. Throws InputError
/// listing every missing, unknown and wrongly shaped tensor.
void load_checkpoint(const CheckpointInfo& info, const parallel::ArenaLayout& layout,
                     const StateBuffers& into);

/// Everything wrong with a checkpoint directory, a line each; empty when all is well.
[[nodiscard]] std::vector<std::string> verify_checkpoint(const std::filesystem::path& directory);

}  // namespace sluice::train
