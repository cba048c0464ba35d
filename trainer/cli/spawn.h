#pragma once

#include <string>
#include <vector>

namespace sluice::cli {

struct Spawned {
  int code = 0;        ///< exit code; 128 + number after a signal
  std::string output;  ///< what it wrote to standard output; standard error is this process's
};

/// Runs a program found on PATH with these words, no shell between, and waits for it. Its environment is the
/// one that this process was started with: what MPI has put into it since (a launcher's or a daemon's
/// addresses) would be taken for its own by what the program starts. Throws std::system_error when it cannot
/// be started.
[[nodiscard]] Spawned spawn(const std::vector<std::string>& words);

}  // namespace sluice::cli
