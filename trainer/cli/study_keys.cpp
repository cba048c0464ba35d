#include "trainer/cli/study_keys.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

#include "trainer/cli/batch_script.h"
#include "trainer/cli/number.h"
#include "trainer/cli/option_table.h"
#include "trainer/train/errors.h"

namespace sluice::cli::study_keys {
namespace {

using study::BudgetUnit;
using study::StudySpec;

constexpr Bounds kAboveZero{
    .low = 0, .high = std::numeric_limits<double>::infinity(), .low_edge = Edge::kExcluded};

std::string set_integer(std::int64_t& out, const std::string& text, const Bounds& bounds) {
  const auto value = parse_integer(text);
  if (!value || !bounds.contains(static_cast<double>(*value)))
    return "must be a whole number, " + describe(bounds);
  out = *value;
  return "";
}

/// Every value by `one`, which returns its fault.
template <class Value, class One>
std::string set_list(std::vector<Value>& out, const std::string& text, const One& one) {
  std::vector<Value> values;
  try {
    for (const auto& word : values_of(text)) {
      Value value{};
      const auto fault = one(value, word);
      if (!fault.empty()) return word + " " + fault;
      values.push_back(std::move(value));
    }
  } catch (const train::InputError& error) {
    return error.what();
  }
  if (values.empty()) return "must be values with commas between them";
  out = std::move(values);
  return "";
}

std::string set_number(double& out, const std::string& text) {
  const auto value = parse_number(text);
  if (!value || !kAboveZero.contains(*value)) return "must be a number, " + describe(kAboveZero);
  out = *value;
  return "";
}

std::string set_seeds(std::vector<std::uint64_t>& out, const std::string& text) {
  return set_list(out, text, [](std::uint64_t& value, const std::string& word) -> std::string {
    const auto seed = parse_unsigned(word);
    if (!seed) return "must be a whole number, >= 0";
    value = *seed;
    return "";
  });
}

template <class Part>
Setter integer(Part StudySpec::*part, std::int64_t Part::*field, Bounds bounds) {
  return
      [=](StudySpec& spec, const std::string& text) { return set_integer(spec.*part.*field, text, bounds); };
}

Setter integer(std::int64_t StudySpec::*field, Bounds bounds) {
  return [=](StudySpec& spec, const std::string& text) { return set_integer(spec.*field, text, bounds); };
}

Setter budgets(BudgetUnit unit) {
  return [unit](StudySpec& spec, const std::string& text) -> std::string {
    if (!spec.budgets.amounts.empty() && spec.budgets.unit != unit)
      return "budgets are given in another unit already; give one of tokens, flops and tokens_per_parameter";
    spec.budgets.unit = unit;
    return set_list(spec.budgets.amounts, text, set_number);
  };
}

std::string set_kind(StudySpec& spec, const std::string& text) {
  if (text != "loss" && text != "speed") return "must be loss or speed";
  spec.kind = text == "loss" ? study::StudyKind::kLoss : study::StudyKind::kSpeed;
  return "";
}

std::string set_name(StudySpec& spec, const std::string& text) {
  if (text.empty() || text.find('/') != std::string::npos || !is_plain_path(text))
    return "must be a name without / \" ' \\ % $ `";
  spec.name = text;
  return "";
}

std::string set_dir(StudySpec& spec, const std::string& text) {
  if (text.empty() || !is_plain_path(text)) return "must be a path without \" ' \\ % $ `";
  spec.dir = text;
  return "";
}

std::string set_branches(StudySpec& spec, const std::string& text) {
  if (text != "true" && text != "false") return "must be true or false";
  spec.budgets.branches = text == "true";
  return "";
}

std::string set_tuned_key(StudySpec& spec, const std::string& text) {
  const auto& table = option_table();
  const auto row = std::ranges::find_if(table, [&](const OptionRow& one) { return one.key == text; });
  if (row == table.end() || row->type != "float") return "must be a setting of a run that is a number";
  spec.tune.key = text;
  return "";
}

std::string set_factor(StudySpec& spec, const std::string& text) {
  constexpr Bounds kGrows{.low = 1, .high = 100, .low_edge = Edge::kExcluded};
  const auto value = parse_number(text);
  if (!value || !kGrows.contains(*value)) return "must be a number, " + describe(kGrows);
  spec.tune.factor = *value;
  return "";
}

std::string set_modes(StudySpec& spec, const std::string& text) {
  return set_list(spec.speed.modes, text, [](std::string& value, const std::string& word) -> std::string {
    value = word;
    return word == "strong" || word == "weak" ? "" : "must be strong or weak";
  });
}

std::string set_ranks(StudySpec& spec, const std::string& text) {
  return set_list(spec.speed.ranks, text, [](std::int64_t& value, const std::string& word) {
    return set_integer(value, word, {1, 1e6});
  });
}

void finish_sizes(StudySpec& spec, std::vector<std::string>& faults) {
  if (spec.families.empty()) spec.families.push_back({.name = "model", .values = {}});
  if (spec.sizes.empty())
    spec.sizes.push_back({.name = "base", .values = {}, .of_family = {}, .seeds = {}, .budgets = {}});
  std::vector<std::string> names;
  for (const auto& size : spec.sizes) names.push_back(size.name);
  if (spec.tune.sizes.empty()) spec.tune.sizes = names;
  for (const auto& size : spec.tune.sizes) {
    if (std::ranges::count(names, size) == 0)
      faults.push_back(
          fmt::format("tune.sizes: there is no size {}; there are {}", size, fmt::join(names, ", ")));
  }
  const bool all = spec.tune.sizes.size() >= names.size();
  if (!spec.tune.values.empty() && spec.tune.sizes.size() < 2 && !all)
    faults.push_back("tune.sizes: a law for the other sizes needs two or more sizes that are tuned");
}

void check_kind(const StudySpec& spec, const std::map<std::string, std::int64_t>& given,
                std::vector<std::string>& faults) {
  const bool loss = spec.kind == study::StudyKind::kLoss;
  for (const auto& [key, line] : given) {
    if (loss ? key.starts_with("speed.") : key.starts_with("budgets.") || key.starts_with("tune."))
      faults.push_back(fmt::format("{}: is not for study.kind = {}", key, loss ? "loss" : "speed"));
  }
  if (!loss && spec.jobs > 1)
    faults.push_back(fmt::format(
        "study.jobs = {}: must be 1 for a speed study; runs side by side would slow each other", spec.jobs));
  if (loss && spec.budgets.amounts.empty())
    faults.push_back("[budgets]: not given; tokens = 10e6, 20e6 or flops or tokens_per_parameter");
  if (!spec.tune.values.empty() && static_cast<std::int64_t>(spec.tune.values.size()) > spec.tune.most)
    faults.push_back(
        fmt::format("tune.most = {}: tune.values has {} already", spec.tune.most, spec.tune.values.size()));
  for (const auto& axis : spec.axes) {
    if (!spec.tune.values.empty() && axis.key == spec.tune.key)
      faults.push_back(fmt::format("axis.{}: [tune] tunes it; leave one of them away", axis.key));
  }
}

}  // namespace

std::vector<std::string> values_of(const std::string& text) {
  auto values = sweep_values(text, text);
  for (auto& value : values) {
    const auto first = value.find_first_not_of(" \t");
    value = first == std::string::npos ? "" : value.substr(first, value.find_last_not_of(" \t") - first + 1);
  }
  return values;
}

const std::map<std::string, Setter>& keys() {
  using study::Speed;
  using study::Tune;
  static const std::map<std::string, Setter> all{
      {"study.name", set_name},
      {"study.kind", set_kind},
      {"study.dir", set_dir},
      {"study.jobs", integer(&StudySpec::jobs, {1, 4096})},
      {"study.gpus", integer(&StudySpec::gpus, {0, 4096})},
      {"study.ranks", integer(&StudySpec::ranks, {1, 1e6})},
      {"study.seeds", [](StudySpec& spec, const std::string& text) { return set_seeds(spec.seeds, text); }},
      {"budgets.tokens", budgets(BudgetUnit::kTokens)},
      {"budgets.flops", budgets(BudgetUnit::kFlops)},
      {"budgets.tokens_per_parameter", budgets(BudgetUnit::kTokensPerParameter)},
      {"budgets.branches", set_branches},
      {"tune.key", set_tuned_key},
      {"tune.values",
       [](StudySpec& spec, const std::string& text) { return set_list(spec.tune.values, text, set_number); }},
      {"tune.factor", set_factor},
      {"tune.sizes",
       [](StudySpec& spec, const std::string& text) {
         spec.tune.sizes = values_of(text);
         return std::string();
       }},
      {"tune.budget",
       [](StudySpec& spec, const std::string& text) { return set_number(spec.tune.budget, text); }},
      {"tune.most", integer(&StudySpec::tune, &Tune::most, {3, 100})},
      {"speed.modes", set_modes},
      {"speed.ranks", set_ranks},
      {"speed.weak_batch", integer(&StudySpec::speed, &Speed::weak_batch, {1, 1e7})},
      {"speed.steps", integer(&StudySpec::speed, &Speed::steps, {1, 1e6})},
      {"speed.warmup", integer(&StudySpec::speed, &Speed::warmup, {0, 1e6})},
      {"speed.vocabulary", integer(&StudySpec::speed, &Speed::vocabulary, {2, 1 << 24})},
      {"speed.cluster",
       [](StudySpec& spec, const std::string& value) {
         spec.speed.cluster = value;
         return std::string();
       }},
  };
  return all;
}

std::string set_of_size(study::Size& size, const std::string& key, const std::string& value) {
  if (key == "seeds") return set_seeds(size.seeds, value);
  if (key == "budgets") return set_list(size.budgets, value, set_number);
  return "must be config, seeds, budgets or section.key";
}

void finish(StudySpec& spec, const std::map<std::string, std::int64_t>& given,
            std::vector<std::string>& faults) {
  if (!given.contains("study.name")) faults.push_back("study.name: not given");
  if (!given.contains("study.kind")) faults.push_back("study.kind: not given; loss or speed");
  if (spec.dir.empty()) spec.dir = "runs/" + spec.name;
  while (spec.dir.size() > 1 && spec.dir.ends_with('/')) spec.dir.pop_back();
  finish_sizes(spec, faults);
  check_kind(spec, given, faults);
}

}  // namespace sluice::cli::study_keys
