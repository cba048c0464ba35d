#include "trainer/study/report_provenance.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "trainer/study/numbers.h"

namespace sluice::study {
namespace {

constexpr std::size_t kMostColumns = 6;
constexpr std::size_t kMostValues = 12;

/// A value and the number of runs that have it, in the order of first appearance.
struct Tally {
  std::vector<std::pair<std::string, std::int64_t>> values;

  void add(const std::string& value) {
    const auto found = std::ranges::find(values, value, [](const auto& one) { return one.first; });
    if (found == values.end())
      values.emplace_back(value, 1);
    else
      ++found->second;
  }
  [[nodiscard]] std::string text(std::size_t runs) const {
    std::vector<std::string> pieces;
    std::string untold;
    for (const auto& [value, count] : values) {
      if (value.empty())
        untold = fmt::format("not told: {}", count);
      else
        pieces.push_back(count == static_cast<std::int64_t>(runs) ? value
                                                                  : fmt::format("{} ({})", value, count));
    }
    if (pieces.size() > kMostValues) {
      const std::size_t more = pieces.size() - kMostValues;
      pieces.resize(kMostValues);
      pieces.push_back(fmt::format("and {} more", more));
    }
    if (!untold.empty()) pieces.push_back(untold);
    return fmt::format("{}", fmt::join(pieces, "; "));
  }
};

template <class Value>
Tally tally(const std::vector<Origin>& origins, Value value) {
  Tally counts;
  for (const auto& origin : origins) counts.add(value(origin));
  return counts;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

/// "sluice     0.1.0 (commit ...)" without its gap.
std::string program_of(const Origin& origin) {
  std::string line = first_line(origin.build);
  for (std::size_t at = line.find("  "); at != std::string::npos; at = line.find("  ")) line.erase(at, 1);
  return line;
}

void read_manifest(const std::filesystem::path& run, Origin& origin) {
  const std::string text = text_or_nothing(run / "checkpoints" / "latest" / "manifest.json");
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return;
  origin.device = json.value("device", "");
  origin.corpus = json.value("corpus_fingerprint", "");
  const auto world = json.find("world_size");
  if (world != json.end() && world->is_number_integer()) origin.ranks = world->dump();
}

std::vector<Origin> origins_of(const StudyFiles& study) {
  std::vector<Origin> origins;
  for (const auto& run : study.runs) {
    if (!run.finished()) continue;
    Origin origin = origin_of(run.directory, run.id);
    if (origin.settings.empty()) origin.settings = run.values;
    if (origin.build.empty()) origin.build = run.version.empty() ? "" : "sluice " + run.version;
    origins.push_back(std::move(origin));
  }
  return origins;
}

Grid run_table(const StudyFiles& study) {
  Grid grid{.name = "runs",
            .columns = {{"run", Align::kText},
                        {"what", Align::kText},
                        {"role", Align::kText},
                        {"status", Align::kText},
                        {"program", Align::kText}},
            .rows = {}};
  for (const auto& run : study.runs)
    grid.rows.push_back({run.id, run.name, run.role, run.status, run.version});
  return grid;
}

std::vector<Part> unfinished_runs(const StudyFiles& study) {
  Grid grid{.name = "unfinished-runs",
            .columns = {{"run", Align::kText},
                        {"what", Align::kText},
                        {"status", Align::kText},
                        {"reason", Align::kText}},
            .rows = {}};
  std::size_t other = 0;
  for (const auto& run : study.runs) {
    if (run.status == "other-version") ++other;
    // Cells of a speed table are listed there.
    if (!run.finished() && !(run.role == "speed" && study.speed))
      grid.rows.push_back({run.id, run.name, run.status, run.reason});
  }
  std::vector<Part> parts;
  if (!grid.rows.empty()) {
    parts = {Heading{"Failed and missing runs"},
             Paragraph{fmt::format("Not done: {} of {}.", grid.rows.size(), plural(study.runs.size(), "run")),
                       Tone::kWarning},
             std::move(grid)};
  }
  if (other > 0)
    parts.emplace_back(
        Paragraph{fmt::format("Made by another version than the one that collected them ({}): {}.",
                              study.program, plural(other, "run")),
                  Tone::kWarning});
  return parts;
}

}  // namespace

std::string Origin::setting(const std::string& key) const {
  const auto found = std::ranges::find(settings, key, &Row::name);
  return found == settings.end() ? "" : found->value;
}

Origin origin_of(const std::filesystem::path& run, std::string name) {
  Origin origin{.name = std::move(name),
                .settings = {},
                .build = build_of(run),
                .device = {},
                .corpus = {},
                .ranks = {}};
  for (const auto& section : ini_sections(text_or_nothing(run / "resolved.ini")))
    for (const auto& row : section.rows)
      origin.settings.push_back({section.name.empty() ? row.name : section.name + "." + row.name, row.value});
  read_manifest(run, origin);
  return origin;
}

std::vector<std::string> differing_keys(const std::vector<Origin>& origins) {
  std::vector<std::string> keys;
  for (const auto& origin : origins)
    for (const auto& row : origin.settings) {
      if (row.name == "run.dir" || std::ranges::find(keys, row.name) != keys.end()) continue;
      const bool differs = std::ranges::any_of(origins, [&](const Origin& other) {
        return std::ranges::find(other.settings, row.name, &Row::name) == other.settings.end() ||
               other.setting(row.name) != row.value;
      });
      if (differs) keys.push_back(row.name);
    }
  return keys;
}

Grid differing_settings(const std::vector<Origin>& origins) {
  Grid grid{.name = "differing-settings", .columns = {{"setting", Align::kText}}, .rows = {}};
  const bool each = origins.size() <= kMostColumns;
  if (each) {
    for (const auto& origin : origins) grid.columns.push_back({origin.name, Align::kText});
  } else {
    grid.columns.push_back({"values (runs that have each)", Align::kText});
  }
  for (const auto& key : differing_keys(origins)) {
    std::vector<std::string> row = {key};
    if (each) {
      for (const auto& origin : origins) row.push_back(origin.setting(key));
    } else {
      row.push_back(tally(origins, [&](const Origin& one) { return one.setting(key); }).text(origins.size()));
    }
    grid.rows.push_back(std::move(row));
  }
  return grid;
}

Grid origin_table(const std::vector<Origin>& origins) {
  Grid grid{.name = "origins", .columns = {{"", Align::kText}, {"value (runs)", Align::kText}}, .rows = {}};
  const auto row = [&](const char* name, const Tally& counts) {
    const bool unknown = counts.values.size() == 1 && counts.values.front().first.empty();
    if (!counts.values.empty() && !unknown) grid.rows.push_back({name, counts.text(origins.size())});
  };
  row("program", tally(origins, program_of));
  row("device", tally(origins, [](const Origin& one) { return one.device; }));
  row("ranks", tally(origins, [](const Origin& one) { return one.ranks; }));
  row("corpus", tally(origins, [](const Origin& one) { return one.setting("data.corpus"); }));
  row("digest of the corpus", tally(origins, [](const Origin& one) { return one.corpus; }));
  row("seed", tally(origins, [](const Origin& one) { return one.setting("run.seed"); }));
  row("seed of the data's order", tally(origins, [](const Origin& one) { return one.setting("data.seed"); }));
  row("precision", tally(origins, [](const Origin& one) { return one.setting("train.precision"); }));
  return grid;
}

ValueTables common_settings(const std::vector<Origin>& origins) {
  ValueTables tables;
  if (origins.empty()) return tables;
  const auto differing = differing_keys(origins);
  for (const auto& [name, value] : origins.front().settings) {
    if (name == "run.dir" || std::ranges::find(differing, name) != differing.end()) continue;
    const std::size_t dot = name.find('.');
    const std::string section = dot == std::string::npos ? "" : name.substr(0, dot);
    if (tables.tables.empty() || tables.tables.back().title != section)
      tables.tables.push_back({section, {}});
    tables.tables.back().rows.push_back({dot == std::string::npos ? name : name.substr(dot + 1), value});
  }
  return tables;
}

std::vector<Part> origin_parts(const std::vector<Origin>& origins) {
  std::vector<Part> parts;
  Grid differing = differing_settings(origins);
  if (!differing.rows.empty()) {
    parts.emplace_back(Heading{"Settings that differ"});
    parts.emplace_back(std::move(differing));
  }
  Grid table = origin_table(origins);
  if (!table.rows.empty()) {
    parts.emplace_back(Heading{"Where the numbers come from"});
    parts.emplace_back(std::move(table));
  }
  for (const auto& [build, count] : tally(origins, [](const Origin& one) { return one.build; }).values)
    if (!build.empty()) {
      parts.emplace_back(Paragraph{"Build of " + plural(static_cast<std::size_t>(count), "run") + ":"});
      parts.emplace_back(Preformatted{build});
    }
  ValueTables common = common_settings(origins);
  if (!common.tables.empty()) {
    parts.emplace_back(Heading{origins.size() > 1 ? "Settings of all runs" : "Settings"});
    parts.emplace_back(std::move(common));
  }
  return parts;
}

std::vector<Part> provenance_parts(const StudyFiles& study) {
  std::vector<Part> parts = unfinished_runs(study);
  for (auto& part : origin_parts(origins_of(study))) parts.push_back(std::move(part));
  if (!study.runs.empty()) {
    parts.emplace_back(Heading{"Runs"});
    parts.emplace_back(run_table(study));
  }
  if (!study.ini.empty()) {
    parts.emplace_back(Heading{"Study file"});
    parts.emplace_back(Preformatted{study.ini});
  }
  return parts;
}

}  // namespace sluice::study
