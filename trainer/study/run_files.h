#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trainer/study/html.h"
#include "trainer/study/metrics_file.h"

namespace sluice::study {

/// [name] and its keys, in the file's order.
struct IniSection {
  std::string name;
  std::vector<Row> rows;
};

/// The value of an eval.json, as text and where it is a number.
struct EvalEntry {
  std::string key;
  std::string text;
  double number = 0.0;  ///< NaN where it is none
};

/// What a report needs of a run directory. Files other than metrics.jsonl may be missing: empty here.
struct RunFiles {
  std::string name;
  Metrics metrics;
  std::vector<IniSection> settings;
  std::string build;
  std::string sample;
  std::vector<EvalEntry> evaluation;

  /// settings' value of "section.key", or "".
  [[nodiscard]] std::string setting(const std::string& section, const std::string& key) const;
  /// A number of eval.json; NaN where there is none.
  [[nodiscard]] double evaluated(const std::string& key) const;
};

/// [sections] and `key = value` of an INI text, comment lines passed over.
[[nodiscard]] std::vector<IniSection> ini_sections(const std::string& text);
/// A whole file; "" where it cannot be read.
[[nodiscard]] std::string text_or_nothing(const std::filesystem::path& file);
/// What built the program that ran: the comments that resolved.ini opens with; of a run of version 1 its
/// build.txt.
[[nodiscard]] std::string build_of(const std::filesystem::path& run);

/// Throws train::InputError for a directory that is no run, or whose files are not what they should be.
[[nodiscard]] RunFiles read_run(const std::filesystem::path& run);

}  // namespace sluice::study
