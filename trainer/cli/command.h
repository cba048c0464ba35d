#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace sluice::cli {

/// Exit codes, documented in docs/reference.md.
inline constexpr int kDone = 0;
inline constexpr int kFault = 1;  ///< a fault of the run, or of verify: something is wrong
inline constexpr int kBadInput = 2;
inline constexpr int kStoppedEarly = 75;  ///< stopped by a signal after a checkpoint; run again to go on

enum class Ranks { kOne, kMany };  ///< whether a command may run under mpirun with several ranks

/// A subcommand: its own file, its own help. `run` gets what stands after its name.
struct Command {
  std::string name;
  std::string summary;  ///< one line for `sluice --help`
  std::string help;     ///< `sluice NAME --help`
  int (*run)(const std::vector<std::string>& arguments, parallel::Communicator& world);
  Ranks ranks = Ranks::kOne;
};

[[nodiscard]] std::span<const Command> commands();

/// `sluice --help`: every command, the exit codes.
[[nodiscard]] std::string general_help();
/// docs/reference.md: every command, key and exit code.
[[nodiscard]] std::string reference_markdown();

/// Runs the command that `words` begin with ("--help" and "--version" are understood) and returns its exit
/// code. Throws train::InputError for an unknown one (with the nearest), and for a command of one rank
/// started as several.
int dispatch(const std::vector<std::string>& words, parallel::Communicator& world);

/// Runs what ranks do without agreeing on a failure, a training loop: anything thrown is printed once, with
/// its rank, and ends the whole job with kFault, since other ranks may wait for this one in an exchange.
/// Alone, it is rethrown.
void end_job_on_fault(parallel::Communicator& world, const std::function<void()>& work);

}  // namespace sluice::cli
