#include "trainer/cli/study_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <regex>
#include <sstream>
#include <system_error>

#include "trainer/cli/arguments.h"
#include "trainer/cli/input_text.h"
#include "trainer/cli/option_table.h"
#include "trainer/cli/study_keys.h"
#include "trainer/cli/syntax.h"
#include "trainer/train/errors.h"
#include "trainer/train/files.h"

namespace sluice::cli {
namespace {

using study::StudySpec;
using study::Values;

/// Keys of a run that a study gives itself, and where they come from.
const std::map<std::string, std::string>& own_keys() {
  static const std::map<std::string, std::string> keys{{"run.dir", "study.dir"},
                                                       {"run.new", "sluice study --rerun"},
                                                       {"run.seed", "study.seeds"},
                                                       {"run.branch_from", "budgets.branches"},
                                                       {"checkpoint.at", "budgets.branches"},
                                                       {"train.steps", "[budgets], or speed.steps"},
                                                       {"train.tokens", "[budgets]"}};
  return keys;
}

template <class Named>
Named& named(std::vector<Named>& all, const std::string& name) {
  const auto found = std::ranges::find_if(all, [&](const Named& one) { return one.name == name; });
  if (found != all.end()) return *found;
  all.emplace_back();
  all.back().name = name;
  return all.back();
}

class StudyReader {
 public:
  explicit StudyReader(std::string file_name) : file_name_(std::move(file_name)) {}

  StudySpec read(const std::string& text) {
    take_headers(text);
    for (const auto& line : parse_ini(text)) take(line);
    study_keys::finish(spec_, given_, faults_);
    if (!faults_.empty()) throw train::InputError(faults_);
    return spec_;
  }

 private:
  /// A family or a size is there by its header alone: it may have no settings of its own.
  void take_headers(const std::string& text) {
    static const std::regex header(R"(\s*\[(family|size)\.([^.\]]+)\]\s*(#.*)?)");
    std::istringstream lines(text);
    std::smatch match;
    for (std::string line; std::getline(lines, line);) {
      if (!std::regex_match(line, match, header)) continue;
      if (match[1] == "family") {
        named(spec_.families, match[2]);
      } else {
        named(spec_.sizes, match[2]);
      }
    }
  }

  void take(const ParsedLine& line) {
    place_ = fmt::format("{}, line {}", file_name_, line.line);
    if (!line.fault.empty()) return fault(fmt::format("'{}': {}", line.key, line.fault));
    if (const auto [first, is_new] = given_.emplace(line.key, line.line); !is_new)
      return fault(fmt::format("{}: given twice, first in line {}", line.key, first->second));
    const auto dot = line.key.find('.');
    const auto section = dot == std::string::npos ? "" : line.key.substr(0, dot);
    const auto rest = line.key.substr(dot + 1);
    if (section == "settings") {
      take_setting(spec_.settings, rest, line.value);
    } else if (section == "family" || section == "size") {
      take_model(section, line);
    } else if (section == "axis") {
      take_axis(rest, line.value);
    } else {
      take_own(line);
    }
  }

  void fault(const std::string& text) { faults_.push_back(fmt::format("{} ({})", text, place_)); }

  /// study.*, budgets.*, tune.*, speed.*
  void take_own(const ParsedLine& line) {
    const auto& keys = study_keys::keys();
    const auto found = keys.find(line.key);
    if (found == keys.end()) {
      auto known = std::vector<std::string>{"settings.config"};
      for (const auto& [key, setter] : keys) known.push_back(key);
      const auto near = nearest(line.key, known);
      return fault(
          fmt::format("{}: unknown key{}", line.key, near.empty() ? "" : "; did you mean " + near + "?"));
    }
    const auto wrong = found->second(spec_, line.value);
    if (!wrong.empty()) fault(fmt::format("{} = {}: {}", line.key, line.value, wrong));
  }

  /// [family.NAME], [size.NAME] and [family.NAME.SIZE]: a setting has two parts, config has one.
  void take_model(const std::string& section, const ParsedLine& line) {
    const auto parts = split_at(line.key, '.');
    const bool is_config = parts.back() == "config" && (parts.size() == 3 || parts.size() == 4);
    const bool of_size = section == "size" && parts.size() == 3 && !is_config;
    const std::size_t names = parts.size() - (is_config || of_size ? 2 : 3);
    if (parts.size() < 3 || names < 1 || names > (section == "family" ? 2U : 1U)) {
      return fault(
          fmt::format("{}: must be config or section.key, in a section [family.NAME], [size.NAME] or "
                      "[family.NAME.SIZE]; names hold no dot",
                      line.key));
    }
    const std::string key = is_config ? "config" : parts[parts.size() - 2] + "." + parts.back();
    if (section == "family") {
      auto& family = named(spec_.families, parts[1]);
      auto& values = names == 1 ? family.values : named(spec_.sizes, parts[2]).of_family[parts[1]];
      return take_setting(values, key, line.value);
    }
    auto& size = named(spec_.sizes, parts[1]);
    if (!of_size) return take_setting(size.values, key, line.value);
    const auto wrong = study_keys::set_of_size(size, parts[2], line.value);
    if (!wrong.empty()) fault(fmt::format("{} = {}: {}", line.key, line.value, wrong));
  }

  void take_setting(Values& values, const std::string& key, const std::string& value) {
    if (key == "config") return take_files(values, value);
    if (const auto text = canonical(key, value)) values[key] = *text;
  }

  void take_axis(const std::string& key, const std::string& text) {
    study::SweptKey axis{.key = key};
    for (const auto& value : study_keys::values_of(text)) {
      if (const auto one = canonical(key, value)) axis.values.push_back(*one);
    }
    spec_.axes.push_back(std::move(axis));
  }

  /// The value as resolved.ini would have it; nullopt after a fault.
  std::optional<std::string> canonical(const std::string& key, const std::string& value) {
    const auto& table = option_table();
    const auto row = std::ranges::find_if(table, [&](const OptionRow& one) { return one.key == key; });
    if (row == table.end()) {
      std::vector<std::string> known;
      for (const auto& one : table) known.push_back(one.key);
      const auto near = nearest(key, known);
      fault(
          fmt::format("{}: no setting of a run{}", key, near.empty() ? "" : "; did you mean " + near + "?"));
      return std::nullopt;
    }
    if (const auto own = own_keys().find(key); own != own_keys().end()) {
      fault(fmt::format("{}: a study gives it to its runs, from {}", key, own->second));
      return std::nullopt;
    }
    train::RunOptions scratch;
    const auto wrong = row->set(scratch, value);
    if (!wrong.empty()) {
      fault(fmt::format("{} = {}: {}", key, value, wrong));
      return std::nullopt;
    }
    return row->get(scratch);
  }

  /// Files in order, a later one over an earlier one; what stands beside them in the study file wins.
  void take_files(Values& values, const std::string& files) {
    Values own;
    for (const auto& file : study_keys::values_of(files)) {
      try {
        const auto lines = parse_ini(train::read_file(file));
        const auto outer = place_;
        for (const auto& line : lines) {
          place_ = fmt::format("{}, line {}", file, line.line);
          if (!line.fault.empty()) {
            fault(fmt::format("'{}': {}", line.key, line.fault));
          } else if (!own_keys().contains(line.key)) {  // a settings file is a whole run's
            if (const auto text = canonical(line.key, line.value)) own[line.key] = *text;
          }
        }
        place_ = outer;
      } catch (const std::system_error& error) {
        fault(fmt::format("config = {}: {} cannot be read ({})", files, file, error.code().message()));
      }
    }
    values.merge(own);
  }

  std::string file_name_;
  std::string place_;  ///< of what is being read
  std::map<std::string, std::int64_t> given_;
  std::vector<std::string> faults_;
  StudySpec spec_;
};

}  // namespace

study::StudySpec parse_study(const std::string& text, const std::string& file_name) {
  return StudyReader(file_name).read(text);
}

}  // namespace sluice::cli
