#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/cli/study_place.h"

namespace sluice::cli {

struct StudyRunOptions {
  std::int64_t jobs = 1;            ///< runs side by side
  std::vector<std::string> only{};  ///< ids; empty: all
  /// How ranks are started, with the placeholders of a site's launch.command; empty: launch/mpirun.sh for
  /// several, nothing for one. With it this is a batch job, whose other processes get its signals, too: TERM
  /// is not passed on.
  std::string launch{};
};

/// Starts what is missing, as many at once as options.jobs, until all has ended that can; then collects.
/// SIGTERM, SIGINT and SIGUSR1 are passed on, and training runs stop after a checkpoint. Returns the exit
/// code: kStoppedEarly where the same call would go on, kFault where a run has failed.
[[nodiscard]] int run_study(const StudyPlace& place, const StudyRunOptions& options);

/// Lets failed runs be tried again. Returns how many.
std::int64_t forget_failures(const StudyPlace& place);
/// Moves runs of another version aside, to ID.1 and so on. Returns how many.
std::int64_t move_other_versions(const StudyPlace& place);

}  // namespace sluice::cli
