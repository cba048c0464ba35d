#pragma once

#include <string>
#include <vector>

namespace sluice::train {

/// One corpus of data.corpus.
struct CorpusPart {
  std::string path;   ///< as written there: its name in metrics
  double weight = 1;  ///< in any unit; of a path without one
};

/// data.corpus taken apart.
struct CorpusList {
  std::vector<CorpusPart> parts;
  std::vector<std::string> faults;  ///< everything wrong with it; the parts are of no use then
};

/// PATH, or PATH:WEIGHT,PATH:WEIGHT,...: a text with neither ':' nor ',' is a path as it stands, and no path
/// holds either. Weights are positive and finite, none below kSmallestShare of all; no path stands twice.
[[nodiscard]] CorpusList parse_corpora(const std::string& text);
inline constexpr double kSmallestShare = 1e-6;

}  // namespace sluice::train
