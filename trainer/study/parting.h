#pragma once

#include <cstdint>
#include <optional>

#include "trainer/study/metrics_file.h"

namespace sluice::study {

/// Where the train losses of two runs part.
struct Parting {
  std::int64_t compared = 0;  ///< steps that both logged
  struct Step {
    std::int64_t step = 0;
    double first = 0.0;
    double second = 0.0;
    [[nodiscard]] double difference() const { return second - first; }
  };
  std::optional<Step> any;      ///< the first step whose losses are not the same number
  std::optional<Step> visible;  ///< the first whose losses differ by more than kVisible of the first's
  std::optional<Step> largest;  ///< the largest difference
  std::optional<Step> last;     ///< the last step that both logged
  bool same_tokens = true;      ///< both had seen as many tokens at each of these steps
};
inline constexpr double kVisible = 1e-3;

/// Steps are compared by their number. A loss that is not finite parts from every number.
[[nodiscard]] Parting parting_of(const Metrics& first, const Metrics& second);

}  // namespace sluice::study
