#pragma once

#include <span>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace sluice::cli {

/// Exit codes, documented in docs/reference.md.
inline constexpr int kDone = 0;
inline constexpr int kFault = 1;       ///< a fault of the run, or of verify: something is wrong
inline constexpr int kBadInput = 2;
inline constexpr int kStoppedEarly = 75;  ///< stopped by a signal after a checkpoint; run again to go on

/// A subcommand: its own file, its own help. `run` gets what stands after its name.
struct Command {
  std::string name;
  std::string summary;     ///< one line for `sluice --help`
  std::string help;        ///< `sluice NAME --help`
  int (*run)(const std::vector<std::string>& arguments, parallel::Communicator& world);
};

[[nodiscard]] std::span<const Command> commands();

}  // namespace sluice::cli
