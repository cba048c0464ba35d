#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trainer/study/page.h"
#include "trainer/study/study_files.h"

// Where numbers come from: builds, machines, corpora, seeds, and the settings in which runs differ.

namespace sluice::study {

/// What a run says of itself.
struct Origin {
  std::string name;
  std::vector<Row> settings;  ///< "section.key" and its value
  std::string build;          ///< versions of program and libraries, a line each; "" where it is not known
  std::string device;         ///< what it computed on, by its newest checkpoint; "" where there is none
  std::string corpus;         ///< fingerprint of its corpus, by its newest checkpoint
  std::string ranks;          ///< that wrote the newest checkpoint

  [[nodiscard]] std::string setting(const std::string& key) const;
};

/// Of resolved.ini and checkpoints/latest/manifest.json, as far as they are there.
[[nodiscard]] Origin origin_of(const std::filesystem::path& run, std::string name);

/// Keys whose values are not the same in all, in the order in which they first stand; a key that some lack
/// differs. run.dir, which always differs, is left out.
[[nodiscard]] std::vector<std::string> differing_keys(const std::vector<Origin>& origins);

/// A row for each differing key, a column for each run; for more than six runs the values and how often each
/// stands.
[[nodiscard]] Grid differing_settings(const std::vector<Origin>& origins);

/// Builds, devices, corpora, ranks and seeds: each value and how many runs have it.
[[nodiscard]] Grid origin_table(const std::vector<Origin>& origins);

/// Settings that all have in common, by section.
[[nodiscard]] ValueTables common_settings(const std::vector<Origin>& origins);

/// Differing settings, origins, common settings, builds in full.
[[nodiscard]] std::vector<Part> origin_parts(const std::vector<Origin>& origins);

/// All of a study: failed and missing runs (but cells of its speed table) with their reasons first, then the
/// above, the table of runs and the study file. Tells runs of another version than the collecting program's.
[[nodiscard]] std::vector<Part> provenance_parts(const StudyFiles& study);

}  // namespace sluice::study
