#include "trainer/study/study_files.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "trainer/train/errors.h"

namespace sluice::study {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr std::int64_t kNewestVersion = 1;

fs::path directory_of(const fs::path& study, const std::string& id, const std::string& told) {
  const fs::path moved = study / "runs" / id;
  if (fs::is_directory(moved)) return moved;
  return told.empty() ? moved : fs::path(told);
}

std::string text_in(const ordered_json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return "";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

StudyEntry entry_of(const ordered_json& run, const fs::path& study) {
  StudyEntry entry{.id = run.at("id").get<std::string>(),
                   .name = text_in(run, "name"),
                   .family = text_in(run, "family"),
                   .model = text_in(run, "model"),
                   .role = text_in(run, "role"),
                   .parent = text_in(run, "parent"),
                   .status = run.at("status").get<std::string>(),
                   .reason = text_in(run, "reason"),
                   .version = text_in(run, "version"),
                   .values = {},
                   .directory = {}};
  const auto params = run.find("params");
  if (params != run.end() && params->is_number()) entry.params = params->get<double>();
  if (const auto values = run.find("values"); values != run.end())
    for (const auto& [key, value] : values->items())
      entry.values.push_back({key, value.is_string() ? value.get<std::string>() : value.dump()});
  entry.directory = directory_of(study, entry.id, text_in(run, "directory"));
  return entry;
}

std::optional<Table> table_of(const fs::path& file) {
  if (!fs::is_regular_file(file)) return std::nullopt;
  return read_csv(file);
}

}  // namespace

bool is_study(const fs::path& directory) { return fs::is_regular_file(directory / "study.json"); }

StudyFiles read_study(const fs::path& directory) {
  const fs::path file = directory / "study.json";
  if (!is_study(directory))
    throw train::InputError(
        fmt::format("{}: not a study directory: it has no study.json", directory.string()));
  StudyFiles study{.name = {},
                   .kind = {},
                   .program = {},
                   .ini = text_or_nothing(directory / "study.ini"),
                   .runs = {},
                   .points = table_of(directory / "points.csv"),
                   .speed = table_of(directory / "speed.csv"),
                   .rates = table_of(directory / "lr.csv")};
  try {
    const auto json = ordered_json::parse(text_or_nothing(file));
    if (json.at("format") != "sluice-study")
      throw train::InputError(
          fmt::format("{}: format {}: must be \"sluice-study\"", file.string(), json.at("format").dump()));
    const auto version = json.at("version").get<std::int64_t>();
    if (version > kNewestVersion)
      throw train::InputError(fmt::format("{}: version {}: this program reads up to version {}",
                                          file.string(), version, kNewestVersion));
    study.name = json.at("name").get<std::string>();
    study.kind = json.at("kind").get<std::string>();
    study.program = text_in(json, "program");
    for (const auto& run : json.at("runs")) study.runs.push_back(entry_of(run, directory));
  } catch (const ordered_json::exception& fault) {
    throw train::InputError(fmt::format("{}: not a study: {}", file.string(), fault.what()));
  }
  return study;
}

}  // namespace sluice::study
