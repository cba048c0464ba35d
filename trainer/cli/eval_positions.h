#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/cli/arguments.h"
#include "trainer/train/evaluate.h"

namespace sluice::cli {

/// eval's flag for the loss of each position of a window.
[[nodiscard]] std::vector<Flag> position_flags();

/// Positions first ... last of a window, taken together.
struct PositionSpan {
  std::int64_t first = 0;
  std::int64_t last = 0;
  train::PositionLoss loss;
};
/// 0, 1, 2 to 3, 4 to 7, ... as far as there are positions.
[[nodiscard]] std::vector<PositionSpan> spans_of(const std::vector<train::PositionLoss>& positions);

/// Columns position, predicted and loss (nats; empty where nothing was predicted).
[[nodiscard]] std::string position_csv(const std::vector<train::PositionLoss>& positions);
/// A line for each span, under a heading.
[[nodiscard]] std::string position_table(const std::vector<PositionSpan>& spans);

/// Writes position_csv() to --by-position. Throws train::InputError where it cannot.
void write_positions(const Arguments& arguments, const std::vector<train::PositionLoss>& positions);

}  // namespace sluice::cli
