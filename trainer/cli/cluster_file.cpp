#include "trainer/cli/cluster_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <sstream>
#include <vector>

#include "trainer/cli/arguments.h"
#include "trainer/cli/cluster_keys.h"
#include "trainer/cli/input_text.h"
#include "trainer/cli/syntax.h"
#include "trainer/train/errors.h"
#include "trainer/train/files.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using study::plan::Cluster;

constexpr const char* kInclude = "include";

const ClusterKey* find_key(const std::string& name) {
  const auto& all = cluster_keys();
  const auto found = std::ranges::find(all, name, &ClusterKey::name);
  return found == all.end() ? nullptr : &*found;
}

/// Keys of one or two files, the first seen counting.
class ClusterReader {
 public:
  void read(const std::string& text, const std::string& file) {
    std::map<std::string, std::int64_t> lines;
    std::string include;
    for (const ParsedLine& line : parse_ini(text)) {
      const std::string place = fmt::format("{}, line {}", file, line.line);
      if (!line.fault.empty()) {
        faults_.push_back(fmt::format("'{}': {} ({})", line.key, line.fault, place));
      } else if (const auto [first, is_new] = lines.emplace(line.key, line.line); !is_new) {
        faults_.push_back(
            fmt::format("{}: given twice ({}, lines {} and {})", line.key, file, first->second, line.line));
      } else if (line.key == kInclude) {
        include = (fs::path(file).parent_path() / line.value).string();
      } else {
        apply(line, place);
      }
    }
    if (!include.empty()) read_included(include, file);
  }

  Cluster finish(const std::string& file) {
    const bool network =
        std::ranges::any_of(given_, [](const auto& key) { return key.starts_with("link.network."); });
    for (const ClusterKey& key : cluster_keys()) {
      const bool wanted = key.need == Need::kAlways || (key.need == Need::kWithNetwork && network) ||
                          (key.need == Need::kWithNode && (network || cluster_.links.ranks_per_node > 1));
      if (wanted && std::ranges::count(given_, key.name) == 0)
        faults_.push_back(fmt::format("{}: missing, {} ({})", key.name, key.help, file));
    }
    if (!faults_.empty()) throw train::InputError(faults_);
    complete_links(cluster_, given_);
    return cluster_;
  }

 private:
  void apply(const ParsedLine& line, const std::string& place) {
    const ClusterKey* const key = find_key(line.key);
    if (key == nullptr) {
      std::vector<std::string> known{kInclude};
      for (const ClusterKey& one : cluster_keys()) known.push_back(one.name);
      const auto near = nearest(line.key, known);
      faults_.push_back(fmt::format(
          "{}: unknown key; {} ({})", line.key,
          near.empty() ? "`sluice plan --help` lists them" : "did you mean " + near + "?", place));
      return;
    }
    if (std::ranges::count(given_, line.key) > 0) return;  // of an included file, and replaced
    given_.push_back(line.key);
    const auto fault = key->set(cluster_, line.value);
    if (!fault.empty())
      faults_.push_back(fmt::format("{} = {}: {} ({})", line.key, line.value, fault, place));
  }

  void read_included(const std::string& include, const std::string& from) {
    if (included_) {
      faults_.push_back(
          fmt::format("{} = {}: an included file includes nothing ({})", kInclude, include, from));
      return;
    }
    included_ = true;
    try {
      read(train::read_file(include), include);
    } catch (const std::system_error& error) {
      faults_.push_back(
          fmt::format("{} = {}: cannot be read: {} ({})", kInclude, include, error.code().message(), from));
    }
  }

  Cluster cluster_;
  std::vector<std::string> given_;
  std::vector<std::string> faults_;
  bool included_ = false;
};

}  // namespace

Cluster parse_cluster(const std::string& text, const std::string& file_name) {
  ClusterReader reader;
  reader.read(text, file_name);
  return reader.finish(file_name);
}

Cluster read_cluster(const std::string& file) {
  return parse_cluster(read_input(file, "--cluster " + file), file);
}

std::string cluster_text(const Cluster& cluster, const std::string& head) {
  std::string text;
  std::istringstream lines(head);
  for (std::string line; std::getline(lines, line);) text += "# " + line + "\n";
  std::string section;
  for (const ClusterKey& key : cluster_keys()) {
    const auto value = key.get(cluster);
    if (!value) continue;
    const auto dot = key.name.rfind('.');
    if (key.name.substr(0, dot) != section) {
      section = key.name.substr(0, dot);
      text += fmt::format("\n[{}]\n", section);
    }
    text += fmt::format("# {}\n{} = {}\n", key.help, key.name.substr(dot + 1), *value);
  }
  return text;
}

std::string cluster_keys_help() {
  std::string text;
  for (const ClusterKey& key : cluster_keys())
    text += fmt::format("  {:<40} {}: {}\n", key.name, key.range, key.help);
  return text;
}

}  // namespace sluice::cli
