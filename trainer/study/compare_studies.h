#pragma once

#include <filesystem>
#include <vector>

#include "trainer/study/page.h"
#include "trainer/study/speed_numbers.h"
#include "trainer/study/study_files.h"

namespace sluice::study {

/// Cells of one shape in two speed studies.
struct SpeedPair {
  SpeedCell first;
  SpeedCell second;
  [[nodiscard]] double ratio() const { return second.tokens_per_s / first.tokens_per_s; }
};
/// Measured in both: equal family, model, mode, ranks, dp, sp, exchange, ZeRO, precision, n and batch.
[[nodiscard]] std::vector<SpeedPair> speed_pairs(const std::vector<SpeedCell>& first,
                                                 const std::vector<SpeedCell>& second);

/// Two study directories as a page.
[[nodiscard]] Page compare_studies(const std::filesystem::path& first, const std::filesystem::path& second);

}  // namespace sluice::study
