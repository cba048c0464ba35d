#pragma once

#include <sys/types.h>

#include <filesystem>
#include <map>
#include <optional>
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

/// A program that runs beside this one.
struct StartPlan {
  std::vector<std::string> words{};
  std::filesystem::path output{};                  ///< appended to
  std::filesystem::path errors{};                  ///< appended to; may be the same file
  std::map<std::string, std::string> variables{};  ///< over the first environment
  int kept_open = -1;  ///< a descriptor that it gets, too; -1: none but the standard ones
};
/// Starts it in a process group of its own, so that a terminal's Ctrl-C does not reach it, and without input.
/// Throws std::system_error when it cannot be started.
[[nodiscard]] pid_t start(const StartPlan& plan);
/// Its exit code, as spawn() has it; nullopt while it runs. To be asked until it has ended.
[[nodiscard]] std::optional<int> ended(pid_t child);

}  // namespace sluice::cli
