#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/model/options.h"

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

}  // namespace sluice::cli
