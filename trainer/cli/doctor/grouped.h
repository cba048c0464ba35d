#pragma once

#include <string>
#include <utility>
#include <vector>

#include "trainer/cli/doctor/finding.h"

namespace sluice::cli::doctor {

/// Findings of many hosts or ranks, one line for all that have the same.
class Grouped {
 public:
  /// `where`: "node-a", "rank 3 on node-b".
  void add(const Finding& finding, const std::string& where);
  /// Every distinct finding with the places that it holds for, at most eight of them by name; or `good` where
  /// there is none.
  [[nodiscard]] Findings or_good(Finding good) const;

 private:
  std::vector<std::pair<Finding, std::vector<std::string>>> groups_;
};

}  // namespace sluice::cli::doctor
