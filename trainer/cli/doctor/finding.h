#pragma once

#include <string>
#include <vector>

namespace sluice::cli::doctor {

enum class Severity { kGood, kWarning, kFault };

/// What a check came to. A fault makes `sluice doctor` exit with 1; a warning costs speed or may bite later.
struct Finding {
  Severity severity = Severity::kGood;
  std::string what{};   ///< what was looked at: "shared memory"
  std::string value{};  ///< what was found, with its numbers, hosts and ranks
  std::string fix{};    ///< what to do about it; empty where all is well
};

using Findings = std::vector<Finding>;

}  // namespace sluice::cli::doctor
