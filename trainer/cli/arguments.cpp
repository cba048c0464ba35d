#include "trainer/cli/arguments.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "trainer/cli/number.h"
#include "trainer/cli/syntax.h"
#include "trainer/train/errors.h"

namespace sluice::cli {
namespace {

std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

std::string last_part(const std::string& key) { return key.substr(key.rfind('.') + 1); }

Takes takes_of(const Flag& flag) {
  if (flag.value_name.empty()) return Takes::kNothing;
  return flag.many ? Takes::kMany : Takes::kOne;
}

std::string suggestion(const std::string& word, const std::vector<Flag>& flags) {
  std::vector<std::string> names;
  for (const auto& flag : flags) names.push_back(flag.name);
  const auto near = nearest(word, names);
  return near.empty() ? "" : "; did you mean " + near + "?";
}

}  // namespace

Arguments::Arguments(const std::vector<Flag>& flags, const std::vector<std::string>& words,
                     const std::string& positional_name)
    : flags_(flags) {
  std::vector<std::string> faults;
  read_words(words, faults);
  check(positional_name, faults);
  if (!faults.empty()) throw train::InputError(faults);
}

void Arguments::read_words(const std::vector<std::string>& words, std::vector<std::string>& faults) {
  std::vector<KnownWord> known;
  for (const auto& flag : flags_) known.push_back({flag.name.substr(2), takes_of(flag)});
  bool after_unknown = false;  // a word right after an unknown flag is taken for its value
  for (const auto& word : parse_words(known, words)) {
    const std::string name = "--" + word.name;
    const bool swallowed = after_unknown && word.kind == WordKind::kPositional;
    after_unknown = word.kind == WordKind::kUnknown;
    if (swallowed) continue;
    if (word.kind == WordKind::kPositional) {
      positional_.push_back(word.values.front());
    } else if (word.kind == WordKind::kUnknown) {
      faults.push_back(name + ": unknown flag" + suggestion(name, flags_));
    } else if (word.kind == WordKind::kMalformed) {
      values_.push_back({name, {""}});  // given, if wrongly: not missing as well
      faults.push_back(name + ": " + word.fault);
    } else if (find_value(name) != nullptr) {
      faults.push_back(name + ": given twice");
    } else {
      values_.push_back({name, word.values});
    }
  }
}

void Arguments::check(const std::string& positional_name, std::vector<std::string>& faults) const {
  for (const auto& flag : flags_) {
    if (flag.required && !has(flag.name)) {
      faults.push_back(fmt::format("{} {}: must be given ({})", flag.name, flag.value_name, flag.help));
    }
  }
  const bool needed = !positional_name.empty() && !positional_name.starts_with('[');
  if (needed && positional_.empty()) faults.push_back(positional_name + ": must be given");
  if (positional_name.ends_with("...")) return;
  for (std::size_t i = positional_name.empty() ? 0 : 1; i < positional_.size(); ++i) {
    faults.push_back(
        fmt::format("'{}': unexpected word{}", positional_[i], suggestion("--" + positional_[i], flags_)));
  }
}

const Flag* Arguments::find_flag(const std::string& name) const {
  const auto found =
      std::find_if(flags_.begin(), flags_.end(), [&](const Flag& flag) { return flag.name == name; });
  return found == flags_.end() ? nullptr : &*found;
}

const Arguments::Value* Arguments::find_value(const std::string& name) const {
  const auto found =
      std::find_if(values_.begin(), values_.end(), [&](const Value& value) { return value.flag == name; });
  return found == values_.end() ? nullptr : &*found;
}

bool Arguments::has(const std::string& flag) const {
  if (find_flag(flag) == nullptr) throw std::logic_error(flag + " is not a flag of this command");
  return find_value(flag) != nullptr;
}

std::string Arguments::text(const std::string& flag) const {
  const auto words = list(flag);
  return words.empty() ? "" : words.back();
}

std::vector<std::string> Arguments::list(const std::string& flag) const {
  if (has(flag)) return find_value(flag)->words;
  const auto& value = find_flag(flag)->default_value;
  return value.empty() ? std::vector<std::string>{} : std::vector<std::string>{value};
}

std::int64_t Arguments::integer(const std::string& flag, std::int64_t low, std::int64_t high) const {
  const auto value = parse_integer(text(flag));
  if (value && *value >= low && *value <= high) return *value;
  const std::string allowed = high == std::numeric_limits<std::int64_t>::max()
                                  ? fmt::format(">= {}", low)
                                  : describe({static_cast<double>(low), static_cast<double>(high)});
  throw train::InputError(fmt::format("{} = {}: must be a whole number, {}", flag, text(flag), allowed));
}

double Arguments::number(const std::string& flag, double low, double high) const {
  const auto value = parse_number(text(flag));
  if (value && *value >= low && *value <= high) return *value;
  throw train::InputError(
      fmt::format("{} = {}: must be a number, {}", flag, text(flag), describe({low, high})));
}

IndexRange Arguments::range(const std::string& flag) const {
  const auto words = text(flag);
  const auto colon = words.find(':');
  const auto begin = parse_integer(words.substr(0, colon));
  const auto end = parse_integer(colon == std::string::npos ? "" : words.substr(colon + 1));
  if (!begin || !end || *begin < 0 || *end < *begin) {
    throw train::InputError(fmt::format("{} = {}: must be A:B, whole numbers with 0 <= A <= B", flag, words));
  }
  return {*begin, *end};
}

std::string Arguments::choice(const std::string& flag, const std::vector<std::string>& choices) const {
  const auto value = text(flag);
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return value;
  throw train::InputError(fmt::format("{} = {}: must be {}", flag, value, fmt::join(choices, " or ")));
}

std::string flag_help(const std::vector<Flag>& flags) {
  std::size_t width = 0;
  const auto head = [](const Flag& flag) {
    return flag.name + (flag.value_name.empty() ? "" : " " + flag.value_name) + (flag.many ? "..." : "");
  };
  for (const auto& flag : flags) width = std::max(width, head(flag).size());
  std::string text;
  for (const auto& flag : flags) {
    text += fmt::format("  {:<{}}  {}", head(flag), width, flag.help);
    if (flag.required) text += " (required)";
    if (!flag.default_value.empty()) text += fmt::format(" (default {})", flag.default_value);
    text += '\n';
  }
  return text;
}

std::string nearest(const std::string& word, const std::vector<std::string>& known) {
  const auto same_end = std::find_if(known.begin(), known.end(), [&](const std::string& candidate) {
    return candidate.find('.') != std::string::npos && last_part(candidate) == last_part(word);
  });
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 4) + 1;
  for (const auto& candidate : known) {
    const auto distance = edit_distance(word, candidate);
    if (distance >= best_distance) continue;
    best_distance = distance;
    best = candidate;
  }
  return best.empty() && same_end != known.end() ? *same_end : best;
}

}  // namespace sluice::cli
