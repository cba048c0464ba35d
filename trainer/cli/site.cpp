#include "trainer/cli/site.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <map>
#include <regex>
#include <sstream>

#include "trainer/cli/arguments.h"
#include "trainer/cli/number.h"
#include "trainer/cli/syntax.h"
#include "trainer/train/errors.h"

namespace sluice::cli {
namespace {

constexpr std::int64_t kDay = 86400;
const std::vector<std::string> kSections{"sbatch", "prologue", "launch", "limits"};
const std::vector<std::string> kPlaceholders{"{ranks}", "{nodes}", "{ranks_per_node}", "{command}"};
/// Options of sbatch that `sluice submit` writes, and where they are set.
const std::map<std::string, std::string> kOwnOptions{
    {"--array", "`sluice submit --array`"},
    {"--chdir", "it is where `sluice submit` is called"},
    {"--dependency", "`sluice submit`"},
    {"--error", "the log is RUN/submit.log"},
    {"--job-name", "`sluice submit --name`"},
    {"--no-requeue", "launch.requeue"},
    {"--nodes", "`sluice submit --ranks` and launch.ranks_per_node"},
    {"--ntasks", "`sluice submit --ranks`"},
    {"--ntasks-per-node", "launch.ranks_per_node"},
    {"--open-mode", "the log is appended to"},
    {"--output", "the log is RUN/submit.log"},
    {"--requeue", "launch.requeue"},
    {"--signal", "launch.signal and launch.lead"},
    {"--time", "limits.time"}};

/// Applies one key; returns the fault.
using Setter = std::function<std::string(Site&, const std::string&)>;

Setter integer(std::int64_t Site::*field, Bounds bounds) {
  return [field, bounds](Site& site, const std::string& text) -> std::string {
    const auto value = parse_integer(text);
    if (!value || !bounds.contains(static_cast<double>(*value))) {
      return "must be a whole number, " + describe(bounds);
    }
    site.*field = *value;
    return "";
  };
}

Setter choice(bool Site::*field, const std::string& yes, const std::string& no) {
  return [field, yes, no](Site& site, const std::string& text) -> std::string {
    if (text != yes && text != no) return fmt::format("must be {} or {}", yes, no);
    site.*field = text == yes;
    return "";
  };
}

std::string set_time(Site& site, const std::string& text) {
  if (!parse_time_limit(text)) return "must be a time as Slurm writes it: minutes, H:MM:SS or D-HH:MM:SS";
  site.time = text;
  return "";
}

std::string suggestion(const std::string& word, const std::vector<std::string>& known) {
  const auto near = nearest(word, known);
  return near.empty() ? fmt::format("; there are {}", fmt::join(known, ", "))
                      : "; did you mean " + near + "?";
}

std::string set_launch(Site& site, const std::string& text) {
  static const std::regex placeholder(R"(\{[^{}$]*\})");
  for (std::sregex_iterator it(text.begin(), text.end(), placeholder), end; it != end; ++it) {
    const auto word = it->str();
    const bool of_the_shell = it->position() > 0 && text[static_cast<std::size_t>(it->position()) - 1] == '$';
    if (of_the_shell || std::ranges::count(kPlaceholders, word) > 0) continue;
    return fmt::format("{} is no placeholder{}", word, suggestion(word, kPlaceholders));
  }
  if (text.find("{command}") == std::string::npos) return "must hold {command}, what the launcher starts";
  site.launch = text;
  return "";
}

const std::map<std::string, Setter>& setters() {
  static const std::map<std::string, Setter> all{
      {"launch.command", set_launch},
      {"launch.signal", choice(&Site::signal_steps, "steps", "script")},
      {"launch.lead", integer(&Site::lead_s, {1, 65535})},
      {"launch.requeue", choice(&Site::requeue, "true", "false")},
      {"launch.ranks_per_node", integer(&Site::ranks_per_node, {1, 1e6})},
      {"limits.time", set_time},
      {"limits.array", integer(&Site::array, {1, 4e6})},
      {"limits.running", integer(&Site::running, {0, 4e6})},
  };
  return all;
}

class SiteReader {
 public:
  explicit SiteReader(std::string file_name) : file_name_(std::move(file_name)) {}

  Site read(const std::string& text) {
    std::istringstream lines(text);
    std::string line;
    for (std::int64_t number = 1; std::getline(lines, line); ++number) take(line, number);
    for (const auto& setting : parse_ini(settings_)) apply(setting);
    check_together();
    if (!faults_.empty()) throw train::InputError(faults_);
    return site_;
  }

 private:
  std::string place(std::int64_t line) const { return fmt::format("{}, line {}", file_name_, line); }

  /// Lines of verbatim sections are put away; the others keep their numbers in what parse_ini() reads.
  void take(const std::string& line, std::int64_t number) {
    static const std::regex header(R"(\s*\[([\w-]+)\]\s*)");
    std::smatch match;
    const bool in_verbatim = section_ == "sbatch" || section_ == "prologue";
    const bool is_header = std::regex_match(line, match, header);
    if (is_header) {
      section_ = match[1];
      if (std::ranges::count(kSections, section_) == 0) {
        faults_.push_back(fmt::format("[{}]: unknown section{} ({})", section_,
                                      suggestion(section_, kSections), place(number)));
      }
    } else if (in_verbatim && line.find_first_not_of(" \t\r") != std::string::npos) {
      take_verbatim(line, number);
    }
    if (is_header || !in_verbatim) settings_ += line;
    settings_ += '\n';
  }

  void take_verbatim(const std::string& line, std::int64_t number) {
    if (section_ == "prologue") {
      site_.prologue.push_back(line);
      return;
    }
    static const std::regex option(R"(#SBATCH\s+(--?[A-Za-z][\w-]*).*)");
    std::smatch match;
    if (!std::regex_match(line, match, option)) {
      if (line.starts_with("##") || line.starts_with("# ")) return;  // a comment
      faults_.push_back(fmt::format("'{}': must be a line #SBATCH --OPTION ({})", line, place(number)));
      return;
    }
    if (const auto own = kOwnOptions.find(long_form(match[1])); own != kOwnOptions.end()) {
      faults_.push_back(
          fmt::format("{}: not here, set by {} ({})", match[1].str(), own->second, place(number)));
      return;
    }
    site_.sbatch.push_back(line);
  }

  static std::string long_form(const std::string& option) {
    static const std::map<std::string, std::string> forms{
        {"-a", "--array"},  {"-d", "--dependency"}, {"-D", "--chdir"},
        {"-e", "--error"},  {"-J", "--job-name"},   {"-N", "--nodes"},
        {"-n", "--ntasks"}, {"-o", "--output"},     {"-t", "--time"}};
    const auto found = forms.find(option.substr(0, 2));
    return option.starts_with("--") || found == forms.end() ? option : found->second;
  }

  void apply(const ParsedLine& line) {
    if (!line.fault.empty()) {
      faults_.push_back(fmt::format("'{}': {} ({})", line.key, line.fault, place(line.line)));
      return;
    }
    const auto setter = setters().find(line.key);
    if (setter == setters().end()) {
      const bool section_known = std::ranges::count(kSections, line.key.substr(0, line.key.find('.'))) > 0;
      if (!section_known && line.key.find('.') != std::string::npos) return;  // said of the section
      std::vector<std::string> known;
      for (const auto& [key, unused] : setters()) known.push_back(key);
      faults_.push_back(
          fmt::format("{}: unknown key{} ({})", line.key, suggestion(line.key, known), place(line.line)));
      return;
    }
    if (const auto [first, is_new] = lines_.emplace(line.key, line.line); !is_new) {
      faults_.push_back(fmt::format("{}: given twice ({}, lines {} and {})", line.key, file_name_,
                                    first->second, line.line));
      return;
    }
    const auto fault = setter->second(site_, line.value);
    if (!fault.empty()) {
      faults_.push_back(fmt::format("{} = {}: {} ({})", line.key, line.value, fault, place(line.line)));
    }
  }

  void check_together() {
    static const std::regex with_srun(R"((^|.*\s)srun\s.*)");
    const bool srun = std::regex_match(site_.launch, with_srun);
    if (!lines_.contains("launch.signal")) site_.signal_steps = srun;
    if (site_.signal_steps && !srun) {
      faults_.push_back(
          fmt::format("launch.signal = steps: only srun's ranks are steps of Slurm's, and launch.command is "
                      "{}; allowed is "
                      "script ({})",
                      site_.launch, file_name_));
    }
    if (const auto limit = parse_time_limit(site_.time); limit && site_.lead_s >= *limit) {
      faults_.push_back(fmt::format("launch.lead = {}: must be less than limits.time = {} ({})", site_.lead_s,
                                    site_.time, file_name_));
    }
  }

  std::string file_name_;
  std::string section_;
  std::string settings_;  ///< the text without the lines of verbatim sections
  std::map<std::string, std::int64_t> lines_;
  std::vector<std::string> faults_;
  Site site_;
};

}  // namespace

Site parse_site(const std::string& text, const std::string& file_name) {
  return SiteReader(file_name).read(text);
}

std::string fill_launch(const std::string& launch, const Launch& values) {
  const std::array<std::pair<std::string, std::string>, 4> fillings{
      {{"{ranks}", std::to_string(values.ranks)},
       {"{nodes}", std::to_string(values.nodes)},
       {"{ranks_per_node}", std::to_string(values.ranks_per_node)},
       {"{command}", values.command}}};
  std::string text;
  for (std::size_t at = 0; at < launch.size();) {
    const auto found = std::ranges::find_if(fillings, [&](const auto& filling) {
      return launch.compare(at, filling.first.size(), filling.first) == 0;
    });
    text += found == fillings.end() ? std::string(1, launch[at]) : found->second;
    at += found == fillings.end() ? 1 : found->first.size();
  }
  return text;
}

std::optional<std::int64_t> parse_time_limit(const std::string& text) {
  static const std::regex notation(R"((?:(\d{1,6})-)?(\d{1,6})(?::(\d{1,6}))?(?::(\d{1,6}))?)");
  std::smatch match;
  if (!std::regex_match(text, match, notation)) return std::nullopt;
  const auto part = [&](std::size_t i) { return match[i].matched ? std::stoll(match[i]) : 0; };
  const bool days = match[1].matched;
  std::int64_t seconds = 0;
  if (days || match[4].matched) {
    seconds = part(1) * kDay + part(2) * 3600 + part(3) * 60 + part(4);
  } else {
    seconds = part(2) * 60 + part(3);
  }
  return seconds > 0 ? std::optional(seconds) : std::nullopt;
}

}  // namespace sluice::cli
