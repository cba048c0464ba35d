#pragma once

#include <map>
#include <string>

#include "trainer/train/checkpoint.h"
#include "trainer/train/safetensors.h"

// manifest.json of a checkpoint (docs/formats.md): what the checkpoint is, and the digest of everything
// beside it.

namespace sluice::train {

inline constexpr std::int64_t kCheckpointVersion = 2;

struct Manifest {
  CheckpointInfo info;
  std::map<std::string, SafetensorsDigests> tensors;  ///< by file name
  std::map<std::string, std::string> files;           ///< of version 1, other files: digest of the whole
};

/// The settings of a model that its output depends on for given parameters, by key without "model.": not
/// those of initial values, dropout and stochastic depth.
[[nodiscard]] std::map<std::string, std::string> function_settings(const model::ModelOptions& options);
/// All [model] settings as a JSON object.
[[nodiscard]] std::string model_text(const model::ModelOptions& options);

/// JSON text; it carries a digest of itself.
[[nodiscard]] std::string manifest_text(const Manifest& manifest);
/// Reads DIR/manifest.json; of version 1 the tokenizer's files beside it, too. Throws InputError naming the
/// file: missing, damaged, of another format or a newer version.
[[nodiscard]] Manifest read_manifest(const std::filesystem::path& directory);

}  // namespace sluice::train
