#include "trainer/cli/eval_positions.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <system_error>

#include "trainer/cli/terminal.h"
#include "trainer/train/errors.h"
#include "trainer/train/files.h"

namespace sluice::cli {

std::vector<Flag> position_flags() {
  return {{.name = "--by-position",
           .value_name = "OUT.csv",
           .help = "write the mean loss of each position of a window, and show it by powers of two: whether "
                   "what stands far back is used"}};
}

std::vector<PositionSpan> spans_of(const std::vector<train::PositionLoss>& positions) {
  const auto count = static_cast<std::int64_t>(positions.size());
  std::vector<PositionSpan> spans;
  for (std::int64_t first = 0; first < count; first = std::max<std::int64_t>(1, 2 * first)) {
    PositionSpan span{
        .first = first, .last = std::min(std::max<std::int64_t>(1, 2 * first), count) - 1, .loss = {}};
    for (std::int64_t at = first; at <= span.last; ++at) {
      span.loss.sum += positions[static_cast<std::size_t>(at)].sum;
      span.loss.targets += positions[static_cast<std::size_t>(at)].targets;
    }
    spans.push_back(span);
  }
  return spans;
}

std::string position_csv(const std::vector<train::PositionLoss>& positions) {
  std::string text = "position,predicted,loss\n";
  for (std::size_t at = 0; at < positions.size(); ++at) {
    const train::PositionLoss& loss = positions[at];
    text += fmt::format("{},{},{}\n", at, loss.targets,
                        loss.targets > 0 ? fmt::format("{:.9g}", loss.mean()) : "");
  }
  return text;
}

std::string position_table(const std::vector<PositionSpan>& spans) {
  std::string text =
      fmt::format("\n{:>17} {:>14} {:>10} {:>10}\n", "positions", "predicted", "loss", "change");
  double before = std::numeric_limits<double>::quiet_NaN();
  for (const PositionSpan& span : spans) {
    const std::string range = span.first == span.last ? fmt::format("{}", span.first)
                                                      : fmt::format("{} to {}", span.first, span.last);
    const double loss = span.loss.mean();
    const std::string change = std::isfinite(loss - before) ? fmt::format("{:+.4f}", loss - before) : "";
    text += fmt::format("{:>17} {:>14} {:>10} {:>10}\n", range, full_count(span.loss.targets),
                        std::isfinite(loss) ? fmt::format("{:.4f}", loss) : "", change);
    before = loss;
  }
  return text;
}

void write_positions(const Arguments& arguments, const std::vector<train::PositionLoss>& positions) {
  const std::string file = arguments.text("--by-position");
  try {
    train::replace_file(file, position_csv(positions));
  } catch (const std::system_error& error) {
    throw train::InputError(fmt::format("--by-position {}: {}", file, error.what()));
  }
}

}  // namespace sluice::cli
