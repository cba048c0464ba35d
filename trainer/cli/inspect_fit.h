#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trainer/train/options.h"

// Which sequences fit in a device's memory, by how many ranks share them.

namespace sluice::cli {

/// How a column of the table shares sequences.
struct FitWay {
  std::int64_t sp = 1;
  std::string mode;  ///< parallel.sp_mode; of one rank ""

  [[nodiscard]] std::string name() const;  ///< "sp 2 ring"
};

struct FitTable {
  struct Row {
    std::int64_t positions = 0;
    std::vector<std::optional<std::int64_t>> bytes;  ///< of a rank, by way; none: these ranks cannot share it
  };
  std::int64_t memory = 0;  ///< bytes of a device
  std::vector<FitWay> ways;
  std::vector<Row> rows;
  std::vector<std::int64_t>
      largest;  ///< n that fits, by way: a multiple of 128 (0: none), at most kMostPositions
};

inline constexpr std::int64_t kMostPositions = std::int64_t{1} << 20;

/// Of such a model at n = 512, 1,024, ... for sp = 1, 2, 4, 8 in every mode that differs in memory: ring
/// holds no more than rowshard, so it stands for both. `rows`: rows of ranks (world / sp).
[[nodiscard]] FitTable fit_table(const train::RunOptions& options, std::int64_t vocabulary_size,
                                 std::int64_t rows, std::int64_t memory);

/// A line for each n; what does not fit in brackets.
[[nodiscard]] std::string fit_text(const FitTable& table);

}  // namespace sluice::cli
