#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "trainer/cli/site.h"

namespace sluice::cli {

/// launch/slurm/job.sh as it was when this program was built.
[[nodiscard]] const char* job_script_text();

/// What a batch script is written for. Paths are absolute and hold no character that is_plain_path() refuses.
struct BatchJob {
  std::string name;
  std::filesystem::path program;  ///< sluice
  std::filesystem::path
      run{};  ///< run directory; of an array the one that holds the elements' own, 0, 1, ...
  std::filesystem::path directory;  ///< where the job works: relative paths of the settings begin there
  std::int64_t ranks = 1;
  std::string time;  ///< time limit in Slurm's notation
  bool array = false;
  std::vector<std::string> names{};  ///< of an array's run directories; empty: 0, 1, ...
  /// Shell text of what is run for the run directory $run; empty: the launcher with `sluice train` behind it.
  std::string command{};
};

/// The script: #SBATCH lines, the site's prologue, job.sh, and what is run. An array's takes the number of
/// the element that its index 0 stands for as its argument.
[[nodiscard]] std::string batch_script(const Site& site, const BatchJob& job);

/// Nodes for so many ranks. Throws train::InputError unless they fit one node or fill all of theirs.
[[nodiscard]] std::int64_t nodes_for(std::int64_t ranks, std::int64_t ranks_per_node);

/// The calls of sbatch for a script: one, or for `elements` of an array as many as the site's limit makes
/// necessary. Where the site limits how many elements run at once, each but the first waits for the end of
/// the one before: `waits`.
struct SbatchCall {
  std::vector<std::string> words;  ///< "sbatch", ...; without the dependency
  bool waits = false;
};
[[nodiscard]] std::vector<SbatchCall> sbatch_calls(const Site& site, const std::filesystem::path& script,
                                                   std::int64_t elements);
/// The words with the dependency on job `before` put in.
[[nodiscard]] std::vector<std::string> with_dependency(std::vector<std::string> words,
                                                       const std::string& before);

/// Neither control characters nor any of " ' \ % $ `, which Slurm or the shell would read otherwise.
[[nodiscard]] bool is_plain_path(const std::string& path);

/// "optim.lr=1e-3,3e-4" and "run.seed=1..8" (whole numbers): key and values. Where there is a `;` that
/// separates the values, which may have commas then: "data.corpus=a:3,b;c". Throws train::InputError.
struct Sweep {
  std::string key;
  std::vector<std::string> values;
};
[[nodiscard]] Sweep parse_sweep(const std::string& word);
/// The values alone, as they stand behind the `=`; `what` begins the faults.
[[nodiscard]] std::vector<std::string> sweep_values(const std::string& what, const std::string& text);
/// Every combination, the last sweep's values first: words "--key=value" for each element.
[[nodiscard]] std::vector<std::vector<std::string>> combinations(const std::vector<Sweep>& sweeps);

}  // namespace sluice::cli
