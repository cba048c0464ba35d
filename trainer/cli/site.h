#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sluice::cli {

/// A Slurm cluster as its users know it: what a batch script there needs (docs/clusters.md).
struct Site {
  std::vector<std::string> sbatch;    ///< "#SBATCH --account=..." lines, as they stand
  std::vector<std::string> prologue;  ///< shell lines before the launcher: module load ...
  std::string launch = "srun --mpi=pmix --ntasks={ranks} {command}";
  bool signal_steps = true;   ///< the signal goes to srun's ranks; false: to the script, which passes it on
  std::int64_t lead_s = 120;  ///< seconds before the time limit at which it comes
  bool requeue = true;        ///< whether a job may be requeued; false: a successor is submitted
  std::int64_t ranks_per_node = 1;
  std::string time = "24:00:00";  ///< what a job asks for, and may ask for at most; Slurm's notation
  std::int64_t array = 1001;      ///< MaxArraySize: elements of one array job
  std::int64_t running = 0;       ///< elements that run at once; 0: no limit
};

/// Sections [sbatch] and [prologue] hold lines that are taken as they stand; [launch] and [limits] keys.
/// Throws train::InputError with all faults at once: unknown sections and keys with the nearest known one,
/// bad values, #SBATCH options that `sluice submit` writes itself. `file_name` stands in the faults.
[[nodiscard]] Site parse_site(const std::string& text, const std::string& file_name);

/// The template with its placeholders filled in: {ranks}, {nodes}, {ranks_per_node}, {command}.
struct Launch {
  std::int64_t ranks = 1;
  std::int64_t nodes = 1;
  std::int64_t ranks_per_node = 1;
  std::string command;  ///< shell text
};
[[nodiscard]] std::string fill_launch(const std::string& launch, const Launch& values);

/// Seconds of a time limit in one of Slurm's notations: "90", "90:00", "1:30:00", "1-12", "1-12:00",
/// "1-12:00:00" (minutes, minutes:seconds, hours:minutes:seconds, days-hours...). nullopt for anything else,
/// and for nothing at all.
[[nodiscard]] std::optional<std::int64_t> parse_time_limit(const std::string& text);

}  // namespace sluice::cli
