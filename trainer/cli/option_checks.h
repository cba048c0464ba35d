#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/train/options.h"

namespace sluice::cli {

/// A combination of settings that cannot be, and the keys that make it.
struct CombinationFault {
  std::vector<std::string> keys;
  std::string text;
};

/// Everything wrong between settings that are each in range.
[[nodiscard]] std::vector<CombinationFault> check_combinations(const train::RunOptions& options);

/// Of them, those of the model, and of the model and its objective.
[[nodiscard]] std::vector<CombinationFault> check_model(const train::RunOptions& options);

/// ceil(train.tokens / (train.global_batch model.seq_len)).
[[nodiscard]] std::int64_t steps_for_tokens(const train::RunOptions& options);

}  // namespace sluice::cli
