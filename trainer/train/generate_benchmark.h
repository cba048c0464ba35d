#pragma once

#include <cstdint>

#include "trainer/model/language_model.h"

namespace sluice::train {

/// Tokens/s of one text being continued, each way of computing the next distribution.
struct GenerateRates {
  double incremental = 0;  ///< one row of each W a token, over the model's n positions
  double full = 0;         ///< a whole forward pass a token, over lengths spread evenly from 1 to n
  double sliding =
      0;  ///< past n tokens, at `slide`: one encoding and slide - 1 incremental tokens, again and again
  std::int64_t slide = 0;
};

/// Times the computation alone, not the choice of tokens. `model` has `seq_len` positions.
[[nodiscard]] GenerateRates benchmark_generation(const model::LanguageModel& model, std::int64_t seq_len,
                                                 std::int64_t vocabulary_size, std::int64_t slide);

}  // namespace sluice::train
