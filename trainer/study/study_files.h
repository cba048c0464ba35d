#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "trainer/study/csv.h"
#include "trainer/study/run_files.h"

namespace sluice::study {

/// A run of a study as study.json tells it.
struct StudyEntry {
  std::string id;
  std::string name;
  std::string family;
  std::string model;   ///< its size's name
  std::string role;    ///< trunk | branch | run | tuning | speed
  std::string parent;  ///< of a branch: its trunk's id
  std::string status;  ///< waiting | running | done | failed | other-version
  std::string reason;
  std::string version;
  double params = std::numeric_limits<double>::quiet_NaN();
  std::vector<Row> values;  ///< what the study file sets
  std::filesystem::path directory;

  /// Done, by this or another version: its numbers stand.
  [[nodiscard]] bool finished() const { return status == "done" || status == "other-version"; }
};

/// What a report needs of a study directory (docs/formats.md).
struct StudyFiles {
  std::string name;
  std::string kind;     ///< loss | speed
  std::string program;  ///< version of the program that collected it
  std::string ini;      ///< the study file
  std::vector<StudyEntry> runs;
  std::optional<Table> points;
  std::optional<Table> speed;
  std::optional<Table> rates;  ///< lr.csv
};

/// Whether a directory holds a study: a study.json.
[[nodiscard]] bool is_study(const std::filesystem::path& directory);

/// Throws train::InputError for a directory without a study.json, or with one that is none or newer, and for
/// tables that are not CSV. A run's directory is sought as study.json names it, then under runs/ID (a study
/// that was moved).
[[nodiscard]] StudyFiles read_study(const std::filesystem::path& directory);

}  // namespace sluice::study
