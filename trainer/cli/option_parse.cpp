#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include "trainer/cli/arguments.h"
#include "trainer/cli/input_text.h"
#include "trainer/cli/option_checks.h"
#include "trainer/cli/option_table.h"
#include "trainer/cli/syntax.h"
#include "trainer/train/errors.h"

namespace sluice::cli {
namespace {

/// One setting as somebody wrote it. Sources are numbered by precedence: files in order, the command line
/// last.
struct Assignment {
  std::string key;
  std::string value;
  std::int64_t source = 0;
  std::string place;  ///< "my.ini, line 3" or "command line"
};

const OptionRow* find_row(const std::string& key) {
  const auto& table = option_table();
  const auto found =
      std::find_if(table.begin(), table.end(), [&](const OptionRow& row) { return row.key == key; });
  return found == table.end() ? nullptr : &*found;
}

std::string unknown_key(const std::string& key, const std::string& place) {
  std::vector<std::string> known{"config"};
  for (const auto& row : option_table()) known.push_back(row.key);
  const auto near = nearest(key, known);
  return fmt::format("{}: unknown key ({}){}", key, place,
                     near.empty() ? "" : "; did you mean " + near + "?");
}

/// --device is short for --train.device: the one setting that belongs to the machine, not to the run.
std::string spell_out(const std::string& word) {
  const bool is_short = word == "--device" || word.starts_with("--device=");
  return is_short ? "--train." + word.substr(2) : word;
}

/// Collects what all sources say, then applies it in the order of precedence.
class Collector {
 public:
  void add_text(const std::string& ini, const std::string& file_name) {
    std::map<std::string, std::int64_t> lines;
    ++source_;
    for (const auto& line : parse_ini(ini)) {
      const auto place = fmt::format("{}, line {}", file_name, line.line);
      if (!line.fault.empty()) {
        faults_.push_back(fmt::format("'{}': {} ({})", line.key, line.fault, place));
      } else if (const auto [first, is_new] = lines.emplace(line.key, line.line); !is_new) {
        faults_.push_back(fmt::format("{}: given twice ({}, lines {} and {})", line.key, file_name,
                                      first->second, line.line));
      } else {
        add({line.key, line.value, source_, place});
      }
    }
  }

  void add_file(const std::string& file) {
    errno = 0;
    std::ifstream stream(file);
    std::ostringstream text;
    if (stream) text << stream.rdbuf();
    if (!stream || !text) {
      faults_.push_back(
          fmt::format("--config {}: cannot be read ({})", file, std::strerror(errno != 0 ? errno : EISDIR)));
      return;
    }
    add_text(text.str(), file);
  }

  void add_words(const std::vector<std::string>& words) {
    std::vector<KnownWord> known{{"config", Takes::kMany}};
    for (const auto& row : option_table()) {
      known.push_back({row.key, row.type == "true|false" ? Takes::kOptional : Takes::kOne});
    }
    std::vector<std::string> spelled_out;
    for (const auto& word : words) spelled_out.push_back(spell_out(word));
    const auto parsed = parse_words(known, spelled_out);
    for (const auto& word : parsed) {
      if (word.kind != WordKind::kKnown || word.name != "config") continue;
      for (const auto& file : word.values) add_file(file);
    }
    ++source_;
    for (std::size_t i = 0; i < parsed.size(); ++i) {
      const bool value_follows = i + 1 < parsed.size() && parsed[i + 1].kind == WordKind::kPositional;
      if (add_word(parsed[i], value_follows ? parsed[i + 1].values.front() : "") && value_follows) ++i;
    }
  }

  /// Combinations are judged among the settings of `section` alone where it is not empty.
  train::RunOptions resolve(const std::string& section = "") {
    train::RunOptions options;
    for (const auto& assignment : assignments_) apply(assignment, options);
    resolve_seeds(options);
    resolve_steps(options);
    for (const auto& fault : check_combinations(options)) {
      const auto out_of_question = [&](const std::string& key) {
        return std::count(bad_.begin(), bad_.end(), key) > 0 || !key.starts_with(section);
      };
      if (std::none_of(fault.keys.begin(), fault.keys.end(), out_of_question)) faults_.push_back(fault.text);
    }
    if (!faults_.empty()) throw train::InputError(faults_);
    return options;
  }

 private:
  static constexpr const char* kCommandLine = "command line";

  void add(Assignment assignment) {
    if (find_row(assignment.key) == nullptr) {
      faults_.push_back(unknown_key(assignment.key, assignment.place));
    } else {
      assignments_.push_back(std::move(assignment));
    }
  }

  /// Whether the word that follows belongs to this one.
  bool add_word(const ParsedWord& word, const std::string& following) {
    if (word.kind == WordKind::kPositional) {
      faults_.push_back(fmt::format("'{}': unexpected word; a setting is --section.key=value (command line)",
                                    word.values.front()));
      return false;
    }
    if (word.kind == WordKind::kMalformed) {
      const auto* row = find_row(word.name);
      bad_.push_back(word.name);
      faults_.push_back(fmt::format("{}: {}{} (command line)", word.name, word.fault,
                                    row == nullptr ? "" : ", " + row->range));
      return false;
    }
    if (word.kind == WordKind::kUnknown) {
      faults_.push_back(unknown_key(word.name, kCommandLine));
      return true;
    }
    if (word.name == "config") return false;
    const auto twice = std::any_of(assignments_.begin(), assignments_.end(), [&](const Assignment& other) {
      return other.key == word.name && other.source == source_;
    });
    if (twice) {
      faults_.push_back(word.name + ": given twice (command line)");
      return false;
    }
    const bool bare = word.values.empty();  // --run.new, or --run.new true
    const auto given = bare ? following : word.values.front();
    add({word.name, given.empty() && find_row(word.name)->type == "true|false" ? "true" : given, source_,
         kCommandLine});
    return bare;
  }

  void apply(const Assignment& assignment, train::RunOptions& options) {
    const auto fault = find_row(assignment.key)->set(options, assignment.value);
    if (fault.empty()) {
      given_[assignment.key] = assignment.source;
    } else {
      bad_.push_back(assignment.key);
      faults_.push_back(
          fmt::format("{} = {}: {} ({})", assignment.key, assignment.value, fault, assignment.place));
    }
  }

  void resolve_seeds(train::RunOptions& options) const {
    if (!given_.contains("data.seed")) options.data.seed = options.run.seed;
    if (!given_.contains("model.seed")) options.model.seed = options.run.seed;
  }

  /// The later source of train.steps and train.tokens wins; in one source they must agree.
  void resolve_steps(train::RunOptions& options) {
    auto& t = options.train;
    if (t.tokens == 0) return;
    const auto steps = steps_for_tokens(options);
    const auto steps_source = t.steps > 0 ? given_["train.steps"] : -1;
    if (steps_source > given_["train.tokens"]) {
      t.tokens = 0;
    } else if (steps_source == given_["train.tokens"] && steps != t.steps) {
      bad_.push_back("train.steps");
      faults_.push_back(
          fmt::format("train.steps = {} and train.tokens = {} disagree: at train.global_batch = {} x "
                      "model.seq_len = {} tokens a "
                      "step the latter are {} steps; give one of them",
                      t.steps, t.tokens, t.global_batch, options.model.seq_len, steps));
    } else {
      t.steps = steps;
    }
  }

  std::vector<Assignment> assignments_;
  std::vector<std::string> faults_;
  std::vector<std::string> bad_;  ///< keys with a fault: combinations that hold them are not judged
  std::map<std::string, std::int64_t> given_;
  std::int64_t source_ = 0;
};

}  // namespace

model::ModelOptions parse_model_options(const std::string& ini, const std::string& file_name) {
  return parse_partial_options(ini, file_name).model;
}

train::RunOptions parse_partial_options(const std::string& ini, const std::string& file_name,
                                        const std::vector<std::string>& arguments) {
  Collector collector;
  collector.add_text(ini, file_name);
  collector.add_words(arguments);
  return collector.resolve("model.");
}

std::string read_model_file(const std::string& file) { return read_input(file, "--model " + file); }

train::RunOptions parse_run_options(const std::vector<std::string>& arguments, const std::string& defaults) {
  Collector collector;
  collector.add_text(defaults, "defaults");
  collector.add_words(arguments);
  return collector.resolve();
}

train::RunOptions parse_run_options_text(const std::string& ini, const std::string& file_name) {
  Collector collector;
  collector.add_text(ini, file_name);
  return collector.resolve();
}

}  // namespace sluice::cli
