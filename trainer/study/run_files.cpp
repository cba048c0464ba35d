#include "trainer/study/run_files.h"

#include <fmt/format.h>

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

namespace fs = std::filesystem;

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::vector<EvalEntry> evaluation_of(const fs::path& file) {
  const std::string text = text_or_nothing(file);
  if (trimmed(text).empty()) return {};
  try {
    std::vector<EvalEntry> entries;
    const auto values = nlohmann::ordered_json::parse(text);
    for (const auto& [key, value] : values.items()) {
      const double number =
          value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
      const std::string shown = value.is_number_float() ? fmt::format("{:.6g}", number) : value.dump();
      entries.push_back({key, value.is_string() ? value.get<std::string>() : shown, number});
    }
    return entries;
  } catch (const nlohmann::json::exception& fault) {
    throw train::InputError(
        fmt::format("{}: not the output of sluice eval --json: {}", file.string(), fault.what()));
  }
}

}  // namespace

std::string text_or_nothing(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (in) text << in.rdbuf();
  return text.str();
}

std::string build_of(const fs::path& run) {
  std::string build = text_or_nothing(run / "build.txt");
  std::istringstream in(text_or_nothing(run / "resolved.ini"));
  for (std::string line; std::getline(in, line) && line.starts_with("# ");) build += line.substr(2) + "\n";
  return build;
}

std::vector<IniSection> ini_sections(const std::string& text) {
  std::vector<IniSection> sections;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    line = trimmed(line);
    const auto equals = line.find('=');
    if (line.empty() || line[0] == '#' || line[0] == ';') continue;
    if (line.front() == '[' && line.back() == ']') {
      sections.push_back({.name = line.substr(1, line.size() - 2), .rows = {}});
    } else if (equals != std::string::npos) {
      if (sections.empty()) sections.emplace_back();
      sections.back().rows.push_back({trimmed(line.substr(0, equals)), trimmed(line.substr(equals + 1))});
    }
  }
  return sections;
}

std::string RunFiles::setting(const std::string& section, const std::string& key) const {
  for (const auto& part : settings)
    for (const auto& row : part.rows)
      if ((part.name == section && row.name == key) || row.name == section + "." + key) return row.value;
  return "";
}

double RunFiles::evaluated(const std::string& key) const {
  for (const auto& entry : evaluation)
    if (entry.key == key) return entry.number;
  return std::numeric_limits<double>::quiet_NaN();
}

RunFiles read_run(const fs::path& run) {
  if (!fs::is_regular_file(run / "metrics.jsonl"))
    throw train::InputError(fmt::format("{}: not a run directory: it has no metrics.jsonl", run.string()));
  const fs::path whole = fs::weakly_canonical(run);
  return {.name = whole.filename().string(),
          .metrics = read_metrics(run / "metrics.jsonl"),
          .settings = ini_sections(text_or_nothing(run / "resolved.ini")),
          .build = build_of(run),
          .sample = text_or_nothing(run / "sample.txt"),
          .evaluation = evaluation_of(run / "eval.json")};
}

}  // namespace sluice::study
