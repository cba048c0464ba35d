#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "trainer/study/experiment/study_json.h"
#include "trainer/study/plan/cluster.h"

namespace sluice::cli {

/// A study as its directory has it now.
struct StudySnapshot {
  std::vector<study::StudyRun> runs{};
  std::vector<study::TuningPoint> tuning{};
  std::int64_t undecided = 0;  ///< runs that wait for a tuned value to be known at all
};

/// Where a study lives: its file, its cells, and what stands in its directory.
class StudyPlace {
 public:
  /// Reads and checks the study file. Throws train::InputError with all faults.
  explicit StudyPlace(const std::filesystem::path& file);

  [[nodiscard]] const study::StudySpec& spec() const { return spec_; }
  [[nodiscard]] std::filesystem::path directory() const { return spec_.dir; }
  [[nodiscard]] const std::string& version() const { return version_; }

  /// Looks at every run's directory.
  [[nodiscard]] StudySnapshot look() const;
  /// study.ini and study.json.
  void write(const StudySnapshot& snapshot) const;
  /// points.csv and lr.csv, or speed.csv.
  void collect(const StudySnapshot& snapshot) const;

 private:
  std::string text_{};
  study::StudySpec spec_;
  std::vector<study::Cell> cells_{};
  std::optional<study::plan::Cluster> cluster_{};  ///< that speed cells are predicted from
  std::string version_{};
};

/// Whether a run may start: its trunk, where it has one, has left the checkpoint that it goes on from.
[[nodiscard]] bool may_start(const study::StudyRun& one);

[[nodiscard]] bool is_finished(study::Status status);

}  // namespace sluice::cli
