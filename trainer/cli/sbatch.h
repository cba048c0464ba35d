#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trainer/cli/batch_script.h"
#include "trainer/cli/site.h"

// What commands that submit to Slurm share.

namespace sluice::cli {

/// The file that --cluster names. Throws train::InputError where it cannot be read, and for its faults.
[[nodiscard]] Site read_site(const std::string& file);

/// --time, or the site's where `given` is empty. Throws train::InputError for one that Slurm would not take,
/// is longer than the site's, or shorter than what the site keeps for stopping.
[[nodiscard]] std::string checked_time(const Site& site, const std::string& given);

/// Runs sbatch; `before`: the job that a call which waits has to wait for. Returns the job's number. Throws
/// train::InputError where there is no sbatch, std::runtime_error where it refuses.
[[nodiscard]] std::string call_sbatch(const SbatchCall& call, const std::string& before,
                                      const std::filesystem::path& script);

/// The script and the calls of --dry-run.
void print_submission(const std::string& text, const std::filesystem::path& script,
                      const std::vector<SbatchCall>& calls);

}  // namespace sluice::cli
